use std::fs::OpenOptions;

use super::*;

fn plan(fingerprint: &str, double_quant: bool) -> CachePlan {
    let planned = |name: &str, rows, columns| Planned {
        name: name.to_owned(),
        rows,
        columns,
        dtype: Dtype::BF16,
    };
    CachePlan {
        fingerprint: fingerprint.to_owned(),
        double_quant,
        matrices: vec![planned("a.weight", 7, 37), planned("b.weight", 64, 64)],
    }
}

fn matrix(planned: &Planned, double_quant: bool) -> Nf4Matrix {
    let count = planned.rows * planned.columns;
    let values: Vec<f32> = (0..count)
        .map(|i| ((i * 37 % 101) as f32 - 50.0) / 1000.0)
        .collect();
    Nf4Matrix::quantize(&values, planned.rows, planned.columns, double_quant).unwrap()
}

fn write(folder: &Path, plan: &CachePlan) {
    let mut writer = CacheWriter::create(folder, plan).unwrap();
    for planned in &plan.matrices {
        writer
            .add(&planned.name, &matrix(planned, plan.double_quant))
            .unwrap();
    }
    writer.finish().unwrap();
}

fn files(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn refusal(folder: &Path, plan: &CachePlan) -> String {
    match CacheFile::open(folder, plan) {
        Ok(found) => panic!("found: {}", found.is_some()),
        Err(error) => format!("{error:#}"),
    }
}

#[test]
fn what_was_written_is_read_in_its_folder_under_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("not/yet");
    for double_quant in [false, true] {
        let plan = plan("00ff", double_quant);
        assert!(CacheFile::open(&folder, &plan).unwrap().is_none());
        write(&folder, &plan);
        let file = CacheFile::open(&folder, &plan).unwrap().unwrap();
        for planned in &plan.matrices {
            assert_eq!(
                file.read(&planned.name).unwrap(),
                matrix(planned, double_quant)
            );
        }
        assert!(file.read("c.weight").is_err());
        // Written again under the one that is being read, as a second process would.
        write(&folder, &plan);
        assert!(file.read("b.weight").is_ok());
    }
    assert_eq!(
        files(&folder),
        ["nf4-00ff-double.safetensors", "nf4-00ff-single.safetensors"]
    );
}

#[test]
fn a_truncated_or_foreign_file_is_reported_and_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let good = plan("00ff", true);
    let path = good.path(folder);
    write(folder, &good);
    let whole = fs::read(&path).unwrap();

    for length in [0, 7, 100, whole.len() - 1] {
        fs::write(&path, &whole[..length]).unwrap();
        let text = refusal(folder, &good);
        assert!(
            text.contains("truncated") && text.contains("written again"),
            "{text}"
        );
    }
    // Of other weights, under this name: as long, with another fingerprint.
    write(folder, &plan("00fe", true));
    fs::rename(plan("00fe", true).path(folder), &path).unwrap();
    assert!(refusal(folder, &good).contains("other matrices"));
    fs::write(&path, vec![0; whole.len()]).unwrap();
    assert!(refusal(folder, &good).contains("other matrices"));

    write(folder, &good);
    assert!(CacheFile::open(folder, &good).unwrap().is_some());
    let mut other = plan("00ff", true);
    other.matrices[1].rows = 63;
    refusal(folder, &other);
    // As many weights in another shape have the same tensors.
    let mut turned = plan("00ff", true);
    (turned.matrices[0].rows, turned.matrices[0].columns) = (37, 7);
    let file = CacheFile::open(folder, &turned).unwrap().unwrap();
    let text = file.read("a.weight").unwrap_err().to_string();
    assert!(text.contains("a.weight"), "{text}");
}

#[test]
fn an_unfinished_file_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let plan = plan("00ff", true);
    let mut writer = CacheWriter::create(folder, &plan).unwrap();
    let first = matrix(&plan.matrices[0], true);
    writer.add("a.weight", &first).unwrap();
    assert_eq!(files(folder).len(), 1);
    for (name, matrix) in [
        ("a.weight", &first),
        ("c.weight", &first),
        ("b.weight", &first),
    ] {
        let text = format!("{:#}", writer.add(name, matrix).unwrap_err());
        assert!(
            text.contains(name) && text.contains("are not kept"),
            "{text}"
        );
    }
    drop(writer);
    assert_eq!(files(folder), [""; 0]);

    let mut writer = CacheWriter::create(folder, &plan).unwrap();
    writer.add("a.weight", &first).unwrap();
    let text = format!("{:#}", writer.finish().unwrap_err());
    assert!(text.contains("b.weight was not added"), "{text}");
    assert_eq!(files(folder), [""; 0]);
}

#[test]
fn leftovers_go_and_a_file_under_way_stays() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let leftover = folder.join(".nf4-0a-double.safetensors.writing-x1");
    fs::write(&leftover, "half").unwrap();
    fs::write(folder.join(".other"), "").unwrap();
    let under_way = CacheWriter::create(folder, &plan("00ff", true)).unwrap();
    assert!(!leftover.exists());
    let second = CacheWriter::create(folder, &plan("00ff", true)).unwrap();
    assert_eq!(files(folder).len(), 3);
    drop((under_way, second));
    assert_eq!(files(folder), [".other"]);
}

#[test]
fn a_folder_that_cannot_be_written_is_told_with_the_way_out() {
    let folder = tempfile::tempdir().unwrap();
    let taken = folder.path().join("taken");
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(&taken)
        .unwrap();
    for unwritable in [taken.as_path(), Path::new("/proc/moim")] {
        let error = CacheWriter::create(unwritable, &plan("00ff", true))
            .err()
            .unwrap();
        let text = format!("{error:#}");
        assert!(text.contains("MOIM_CACHE_DIR"), "{text}");
        assert!(text.contains(&*unwritable.to_string_lossy()), "{text}");
    }
    let text = format!("{:#}", check_room(folder.path(), u64::MAX).unwrap_err());
    assert!(text.contains("MiB"), "{text}");
    check_room(folder.path(), 1).unwrap();
}

#[test]
fn a_plan_that_makes_no_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut twice = plan("00ff", true);
    twice.matrices.push(twice.matrices[0].clone());
    let mut empty = plan("00ff", true);
    empty.matrices[0].rows = 0;
    let mut wrong_type = plan("00ff", true);
    wrong_type.matrices[0].dtype = Dtype::U8;
    for plan in [
        plan("../ff", true),
        plan("", true),
        twice,
        empty,
        wrong_type,
    ] {
        assert!(
            CacheWriter::create(folder.path(), &plan).is_err(),
            "{plan:?}"
        );
    }
}
