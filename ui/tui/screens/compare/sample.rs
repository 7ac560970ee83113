//! Made-up answers of three epochs to a few questions of Korean grammar.

use std::path::PathBuf;
use std::sync::Arc;

use moim_core::metric::ItemScores;
use moim_core::score::compare::{Side, compare};
use moim_core::score::{
    Answer, AnswerSheet, Averaging, Comparison, FileState, Label, Labels, ScoredFile, ScoredItem,
};

use crate::tui::data::World;
use crate::tui::data::comparison::ComparisonData;
use crate::tui::screens::ranking::sample::{resampling, world as ranked_world};

/// What one question is and what the epochs answer; an answer that begins as the label does is
/// right.
struct Question {
    id: &'static str,
    question_type: &'static str,
    question: &'static str,
    label: &'static str,
    answers: [Option<&'static str>; 3],
}

const QUESTIONS: [Question; 6] = [
    Question {
        id: "426",
        question_type: "선택형",
        question: "\"우유에 {미숫가루/미싯가루}를 타서 마셨다.\" 가운데 올바른 것을 선택하고, 그 이유를 설명하세요.",
        label: "\"우유에 미숫가루를 타서 마셨다.\"가 옳다. 모음이 바뀌어 굳어진 형태가 표준어이다.",
        answers: [
            Some(
                "\"우유에 미싯가루를 타서 마셨다.\"가 옳다. 모음이 바뀌어 굳어진 형태가 표준어이다.",
            ),
            Some(
                "\"우유에 미숫가루를 타서 마셨다.\"가 옳다. 모음이 바뀌어 굳어진 형태가 표준어이다.",
            ),
            Some("\"우유에 미숫가루를 타서 마셨다.\"가 옳다. 굳어진 형태가 표준어이다."),
        ],
    },
    Question {
        id: "427",
        question_type: "교정형",
        question: "다음 문장에서 어문 규범에 부합하지 않는 부분을 찾아 고치고, 그 이유를 설명하세요.\n\"우리는 어의없는 이유로 다투었다.\"",
        label: "\"우리는 어이없는 이유로 다투었다.\"가 옳다. '어이가 없다'에서 온 말이다.",
        answers: [
            Some("\"우리는 어이없는 이유로 다투었다.\"가 옳다. '어이가 없다'에서 온 말이다."),
            Some("\"우리는 어이없는 이유로 다었다.\"가 옳다. '어이가 없다'에서 온 말이다."),
            Some("\"우리는 어이없는 이유로 다투었다.\"가 옳다. '어이가 없다'에서 온 말이다."),
        ],
    },
    Question {
        id: "428",
        question_type: "선택형",
        question: "\"빌린 돈은 {반드시/반듯이} 갚아야 한다.\" 가운데 올바른 것을 선택하세요.",
        label: "\"빌린 돈은 반드시 갚아야 한다.\"가 옳다. '꼭'의 뜻은 '반드시'로 적는다.",
        answers: [Some("\"빌린 돈은 반드시 갚아야 한다.\"가 옳다. '꼭'의 뜻은 '반드시'로 적는다.");
            3],
    },
    Question {
        id: "429",
        question_type: "교정형",
        question: "\"친구가 초콜렛 한 상자를 건넸다.\"를 고치세요.",
        label: "\"친구가 초콜릿 한 상자를 건넸다.\"가 옳다. 'chocolate'은 '초콜릿'으로 적는다.",
        answers: [
            Some("\"친구가 초코렛 한 상자를 건넸다.\"가 옳다. 잘 모르겠다."),
            Some("\"친구가 초코렛 한 상자를 건넸다.\"가 옳다. 잘 모르겠다."),
            Some("\"친구가 초코릿 한 상자를 건넸다.\"가 옳다. 외래어 표기법을 따른다."),
        ],
    },
    Question {
        id: "430",
        question_type: "교정형",
        question: "\"집에 가도 되요.\"를 고치세요.",
        label: "\"집에 가도 돼요.\"가 옳다. '되어요'가 줄면 '돼요'이다.",
        answers: [
            None,
            Some("\"집에 가도 돼요.\"가 옳다. '되어요'의 준말이다."),
            Some("\"집에 가도 되요.\"가 옳다."),
        ],
    },
    Question {
        id: "431",
        question_type: "선택형",
        question: "\"{며칠/몇 일} 동안 비가 왔다.\" 가운데 올바른 것을 선택하세요.",
        label: "\"며칠 동안 비가 왔다.\"가 옳다. '며칠'로만 적는다.",
        answers: [
            Some("\"몇 일 동안 비가 왔다.\"가 옳다. '몇'과 '일'이다."),
            Some("\"며칠 동안 비가 왔다.\"가 옳다. '며칠'로만 적는다."),
            Some("\"며칠 동안 비가 왔다.\"가 옳다. '며칠'로만 적는다."),
        ],
    },
];

/// Whether the sentence before the reason is the label's.
fn is_right(label: &str, answer: &str) -> bool {
    let sentence = |text: &str| text.split("옳다").next().unwrap_or_default().to_owned();
    sentence(label) == sentence(answer)
}

fn file(name: &str, epoch: usize) -> (String, ScoredFile, AnswerSheet) {
    let answered = || {
        QUESTIONS.iter().filter_map(move |question| {
            let answer = question.answers.get(epoch).copied().flatten()?;
            Some((question, answer))
        })
    };
    let answers = answered().map(|(question, answer)| Answer {
        id: question.id.to_owned(),
        text: answer.to_owned(),
    });
    let items = answered().map(|(question, answer)| {
        let is_right = is_right(question.label, answer);
        let is_same = question.label == answer;
        ScoredItem {
            id: question.id.to_owned(),
            question_type: question.question_type.to_owned(),
            scores: ItemScores {
                format: 1.0,
                exact_match: f64::from(u8::from(is_right)),
                rouge1: if is_same { 1.0 } else { 0.5 },
                bertscore: if is_same { 1.0 } else { 0.75 },
                reason_missing: false,
            },
        }
    });
    let scored = ScoredFile {
        items: items.collect(),
        ..ScoredFile::unscored(name, FileState::Complete)
    };
    (name.to_owned(), scored, AnswerSheet::new(answers.collect()))
}

/// The epochs compared, the first being the baseline.
pub(crate) fn comparison(epochs: &[usize]) -> Comparison {
    let labels = QUESTIONS.iter().map(|question| Label {
        id: question.id.to_owned(),
        question_type: question.question_type.to_owned(),
        question: question.question.to_owned(),
        answer: question.label.to_owned(),
    });
    let labels = Labels::new(labels.collect()).unwrap();
    let files: Vec<_> = epochs
        .iter()
        .map(|&epoch| file(&format!("inference_epoch{epoch}.json"), epoch))
        .collect();
    let sides: Vec<Side<'_>> = files
        .iter()
        .map(|(name, scored, sheet)| Side {
            name,
            scored,
            sheet,
        })
        .collect();
    compare(&sides, &labels, Averaging::AllItems, &resampling())
}

/// The world of the ranking's sample, in which these epochs are compared.
pub(crate) fn world(epochs: &[usize]) -> World {
    let mut world = ranked_world();
    world.comparison = Some(Ok(Arc::new(ComparisonData {
        run: PathBuf::from("outputs/demo/seed42"),
        files: epochs
            .iter()
            .map(|epoch| format!("inference_epoch{epoch}.json"))
            .collect(),
        comparison: comparison(epochs),
    })));
    world
}
