//! A made-up page of completions, with Korean text.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use moim_core::run::CompletionRecord;

use crate::tui::data::World;
use crate::tui::data::answers::{AnswersPage, Group, GroupLine, GroupPlace};

/// The run that [`world`] has open.
pub(crate) const RUN: &str = "/nowhere/outputs/demo/seed42";

const LABEL: &str =
    "\"우리는 큰 행사를 무사히 치렀다.\"가 옳다. '치르다'의 'ㅡ'는 '-어' 앞에서 탈락한다.";
const PROMPT: &str = "<|im_start|>system\n한국어 어문 규범에 따라 답하세요. 둘 가운데 하나를 고르세요.<|im_end|>\n<|im_start|>user\n[질문]: \"우리는 큰 행사를 무사히 {치뤘다/치렀다}.\" 가운데 올바른 것을 선택하고, 그 이유를 설명하세요.<|im_end|>\n<|im_start|>assistant\n";

/// The completion of this sample: even ones are right, and the last of eight was cut.
pub(crate) fn completion(sample: usize) -> CompletionRecord {
    let is_right = sample.is_multiple_of(2);
    let is_cut = sample == 7;
    let text = match (is_right, is_cut) {
        (_, true) => "\"우리는 큰 행사를 무사히 치뤘다.\"가 옳다. ".repeat(12),
        (true, _) => LABEL.to_owned(),
        (false, _) => LABEL.replace("치렀다", "치뤘다"),
    };
    let exact = if is_right { 1.0 } else { 0.0 };
    CompletionRecord {
        step: 12,
        epoch: 1,
        id: "322".to_owned(),
        question_type: "선택형".to_owned(),
        sample,
        prompt: PROMPT.to_owned(),
        completion: text,
        label: LABEL.to_owned(),
        length: 50 + sample,
        finish_reason: if is_cut { "length" } else { "stop" }.to_owned(),
        rewards: BTreeMap::from([
            ("bertscore".to_owned(), (!is_cut).then_some(0.9375)),
            ("exact_match".to_owned(), Some(exact)),
            ("format".to_owned(), Some(1.0)),
        ]),
        reward: Some(0.75 + exact / 2.0),
        advantage: Some(exact - 0.5),
    }
}

fn line(index: u64) -> GroupLine {
    let is_shown = index == 2;
    GroupLine {
        place: GroupPlace(index * 1000),
        step: 10 + index as usize,
        id: if is_shown { "322".to_owned() } else { format!("{}", 400 + index) },
        question_type: if index.is_multiple_of(2) { "선택형" } else { "교정형" }.to_owned(),
        mean_reward: Some(0.5 + index as f64 / 8.0),
        is_constant: index == 3,
        question: "[질문]: \"아침으로 {미싯가루/미숫가루}를 한 잔 마셨다.\" 가운데 올바른 것을 선택하세요."
            .to_owned(),
    }
}

/// The answer to the query of this number: five groups around that of step 12, which is the third.
pub(crate) fn page(number: u64) -> AnswersPage {
    AnswersPage {
        run: PathBuf::from(RUN),
        number,
        group: Some(Group {
            place: GroupPlace(2000),
            step: 12,
            epoch: 1,
            id: "322".to_owned(),
            question_type: "선택형".to_owned(),
            completions: (0..8).map(completion).collect(),
        }),
        neighbours: (0..5).map(line).collect(),
        has_later: true,
        has_earlier: false,
        note: None,
    }
}

/// A world with an open run of which nothing but `answers` has been read.
pub(crate) fn world(answers: Option<AnswersPage>) -> World {
    let mut world = World::default();
    world.attach(Path::new(RUN));
    world.answers = answers;
    world
}
