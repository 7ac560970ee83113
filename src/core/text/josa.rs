//! The subject particle that follows a quoted sentence: `"…음"이 옳다`, `"…다."가 옳다`.

/// The particle, 이 or 가, for `sentence`, by how its end is pronounced.
///
/// The last character that is not closing punctuation (`.?!"')…` and their curly and
/// full-width forms) decides: a Hangul syllable with a final consonant takes 이; any
/// other character takes 가. Never 으가.
pub fn subject_particle(sentence: &str) -> char {
    let last = sentence
        .chars()
        .rev()
        .find(|character| !is_closing_punctuation(*character));
    match last {
        Some(character) if has_final_consonant(character) => '이',
        _ => '가',
    }
}

/// Whether `character` is a Hangul syllable (U+AC00 to U+D7A3) that ends in a consonant.
pub fn has_final_consonant(character: char) -> bool {
    // A syllable block is 28 finals wide; final 0 is "none" (Unicode 3.12).
    ('가'..='힣').contains(&character) && !(character as u32 - '가' as u32).is_multiple_of(28)
}

fn is_closing_punctuation(character: char) -> bool {
    character.is_whitespace() || ".?!\"')]…”’」』。．？！＂＇".contains(character)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_syllable_decides() {
        assert_eq!(subject_particle("이제 집에 가도 돼요."), '가');
        assert_eq!(subject_particle("소문이 금세 퍼졌음"), '이');
        assert_eq!(subject_particle("무엇을 했습니까?"), '가');
        assert_eq!(subject_particle("그는 '왠지 좋음.'"), '이');
        assert_eq!(subject_particle("교과서 제2장…"), '이');
        assert_eq!(subject_particle("ABC"), '가');
        assert_eq!(subject_particle("\"?!"), '가');
        assert_eq!(subject_particle(""), '가');
    }
}
