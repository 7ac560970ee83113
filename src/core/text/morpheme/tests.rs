//! The reader on a miniature dictionary that these tests compile themselves.

use super::miniature::{PARTICLE_POSID, write_dictionary};
use super::*;

#[test]
fn words_particles_and_unknown_words_are_cut() {
    let directory = tempfile::tempdir().unwrap();
    write_dictionary(directory.path());
    let dictionary = MecabDictionary::open(directory.path()).unwrap();
    assert_eq!(dictionary.morphs("나는 학교에"), ["나", "는", "학교", "에"]);
    // A space before 는 costs the particle 6000, so the noun of the same spelling wins and
    // the parts stay the same, while 에 has no other reading.
    assert_eq!(dictionary.morphs("나 는"), ["나", "는"]);
    assert_eq!(dictionary.morphs("abc 나"), ["abc", "나"]);
    assert_eq!(dictionary.morphs("힣힣힣"), ["힣힣", "힣"]);
    assert_eq!(dictionary.morphs("😀나"), ["😀", "나"]);
    assert_eq!(dictionary.morphs("  나는  "), ["나", "는"]);
    assert!(dictionary.morphs("").is_empty());
    assert!(dictionary.morphs(" \n").is_empty());
}

#[test]
fn the_space_penalty_changes_the_reading() {
    let directory = tempfile::tempdir().unwrap();
    write_dictionary(directory.path());
    let with_penalty = MecabDictionary::open(directory.path()).unwrap();
    assert_eq!(with_penalty.space_penalty(PARTICLE_POSID), 6000);
    assert_eq!(with_penalty.space_penalty(150), 0);
    // 에 after a space: particle and unknown 힣 at 50 + 6000 + 3000 against one unknown
    // word at 3000; without the penalty the particle wins.
    assert_eq!(with_penalty.morphs("나 에힣"), ["나", "에힣"]);
    std::fs::write(directory.path().join("dicrc"), "cost-factor = 800\n").unwrap();
    let without = MecabDictionary::open(directory.path()).unwrap();
    assert_eq!(without.morphs("나 에힣"), ["나", "에", "힣"]);
}

#[test]
fn a_missing_file_is_named() {
    let directory = tempfile::tempdir().unwrap();
    write_dictionary(directory.path());
    std::fs::remove_file(directory.path().join("char.bin")).unwrap();
    let message = MecabDictionary::open(directory.path())
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("char.bin") && message.contains("reward.mecab_dict"),
        "{message}"
    );
}

/// Each file cut at many lengths must give an error; with bytes flipped it must give an
/// error or a dictionary that still cuts text without a panic.
#[test]
fn a_damaged_dictionary_is_an_error_and_never_a_panic() {
    let directory = tempfile::tempdir().unwrap();
    write_dictionary(directory.path());
    for name in ["sys.dic", "unk.dic", "matrix.bin", "char.bin"] {
        let path = directory.path().join(name);
        let whole = std::fs::read(&path).unwrap();
        let step = (whole.len() / 20).max(1);
        for length in (0..whole.len()).step_by(step) {
            std::fs::write(&path, &whole[..length]).unwrap();
            assert!(
                MecabDictionary::open(directory.path()).is_err(),
                "{name} cut at {length}"
            );
        }
        for position in (0..whole.len()).step_by((whole.len() / 50).max(1) | 1) {
            let mut bytes = whole.clone();
            bytes[position] ^= 0x80;
            std::fs::write(&path, &bytes).unwrap();
            if let Ok(dictionary) = MecabDictionary::open(directory.path()) {
                dictionary.morphs("나는 학교에 abc 힣힣");
            }
        }
        std::fs::write(&path, &whole).unwrap();
    }
    std::fs::write(
        directory.path().join("dicrc"),
        "left-space-penalty-factor = 1,2,3\n",
    )
    .unwrap();
    let message = MecabDictionary::open(directory.path())
        .unwrap_err()
        .to_string();
    assert!(message.contains("left-space-penalty-factor"), "{message}");
}
