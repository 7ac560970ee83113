use super::super::Leaderboard;
use super::super::answers::Coverage;
use super::super::average::Averaging;
use super::super::file::{ScoredFile, ScoredItem};
use super::super::leaderboard::Provenance;
use super::super::statistics::Resampling;
use super::*;
use crate::metric::ItemScores;

fn item(index: usize, exact_match: f64, rouge1: f64) -> ScoredItem {
    ScoredItem {
        id: index.to_string(),
        question_type: ["선택형", "교정형"][index % 2].to_owned(),
        scores: ItemScores {
            format: 1.0,
            exact_match,
            rouge1,
            bertscore: 0.7,
            reason_missing: false,
        },
    }
}

/// The first `right` items are exact matches; the first `answered` of 12 are
/// answered.
fn scored(file: &str, right: usize, answered: usize) -> ScoredFile {
    let items = (0..answered).map(|index| {
        item(
            index,
            f64::from(u8::from(index < right)),
            0.1 * right as f64,
        )
    });
    let is_complete = answered == 12;
    ScoredFile {
        coverage: Some(Coverage {
            answered,
            expected: 12,
            missing: (answered..12).map(|index| index.to_string()).collect(),
            ..Coverage::default()
        }),
        items: items.collect(),
        ..ScoredFile::unscored(
            file,
            if is_complete {
                FileState::Complete
            } else {
                FileState::Partial
            },
        )
    }
}

fn board() -> Leaderboard {
    let broken = FileState::Broken(Fault {
        reason: "trailing comma, \"x\"".to_owned(),
        line: Some(3),
        column: Some(14),
        ends_early: false,
    });
    let files = vec![
        scored("inference_epoch10.json", 6, 12),
        scored("inference_epoch9.json", 6, 12),
        scored("inference_epoch0.json", 0, 12),
        scored("inference_epoch11.json", 12, 7),
        ScoredFile::unscored("inference_epoch12.json", broken),
    ];
    let provenance = Provenance {
        averaging: Averaging::AllItems,
        labels: "data/labels.json".to_owned(),
        items: 12,
        rouge_tokenizer: "eojeol".to_owned(),
        encoder: "bert-base-multilingual-cased, layer 9".to_owned(),
        settings: "settings".to_owned(),
    };
    let mut board = Leaderboard::new(files, provenance, Resampling::default());
    board
        .notes
        .push("labels.json is the label file and is not ranked".to_owned());
    board
}

#[test]
fn the_text_has_the_blocks_of_the_design() {
    let text = text(&board());
    let block = "File: inference_epoch9.json\n   - ROUGE-1        : 0.6000\n   - BERTScore      : \
                 0.7000\n   - EM             : 0.5000\n   - Final Mean     : 0.6000\n";
    assert!(text.contains(block), "{text}");
    let best =
        "\nBest Final Mean:\n   File       : inference_epoch9.json\n   Final Mean : 0.6000\n";
    assert!(text.contains(best), "{text}");
    assert!(
        text.contains("   Tied with  : inference_epoch10.json"),
        "{text}"
    );
    assert!(
        text.contains("File: inference_epoch11.json\n     State          : partial 7/12\n"),
        "{text}"
    );
    assert!(text.contains("broken: 3:14: trailing comma"), "{text}");
    assert!(
        text.contains("5 without an answer: 7, 8, 9, 10, 11"),
        "{text}"
    );
    assert!(text.contains("선택형, 6 items: ROUGE-1 0.6000"), "{text}");
    assert!(
        text.contains("# ROUGE-1 over eojeol tokens; BERTScore by bert-base"),
        "{text}"
    );
    let order: Vec<usize> = ["9", "10", "0", "11", "12"]
        .map(|epoch| {
            text.find(&format!("\nFile: inference_epoch{epoch}.json"))
                .unwrap()
        })
        .to_vec();
    assert!(order.is_sorted(), "{text}");
    assert!(
        text.contains("\nAgainst epoch 0, inference_epoch0.json:\n"),
        "{text}"
    );
}

#[test]
fn json_has_the_fields_of_the_design() {
    let value = json(&board());
    let files = value["files"].as_array().unwrap();
    assert_eq!(files.len(), 5);
    let first = &files[0];
    assert_eq!(first["file"], "inference_epoch9.json");
    assert_eq!((&first["epoch"], &first["rank"]), (&9.into(), &1.into()));
    assert_eq!(first["state"], "complete");
    assert_eq!(first["em"], 0.5);
    assert_eq!(first["tied_with"][0], "inference_epoch10.json");
    assert_eq!(first["per_type"]["교정형"]["items"], 6);
    let interval = first["intervals"]["final_mean"].as_array().unwrap();
    assert!(interval[0].as_f64().unwrap() < 0.6 && interval[1].as_f64().unwrap() > 0.6);
    assert!(first["against_best"].is_null());
    assert_eq!(first["against_epoch0"]["em_won"], 6);
    assert_eq!(files[1]["rank"], 1);
    assert_eq!(files[2]["rank"], 3);
    assert!(files[2]["against_epoch0"].is_null());
    assert_eq!(files[3]["state"], "partial");
    assert_eq!(
        (&files[3]["answered"], &files[3]["expected"]),
        (&7.into(), &12.into())
    );
    assert!(files[3]["rank"].is_null());
    assert_eq!(
        (&files[4]["line"], &files[4]["column"]),
        (&3.into(), &14.into())
    );
    assert!(files[4]["final_mean"].is_null());
    assert_eq!(value["best"]["file"], "inference_epoch9.json");
    assert_eq!(
        value["best"]["indistinguishable"][0],
        "inference_epoch10.json"
    );
    assert_eq!(value["scoring"]["rouge_tokenizer"], "eojeol");
    assert_eq!(value["scoring"]["resampling"]["seed"], 42);
}

#[test]
fn csv_is_rectangular_and_quotes() {
    let csv = csv(&board());
    let lines: Vec<&str> = csv.lines().collect();
    assert_eq!(lines.len(), 6);
    let columns = lines[0].split(',').count();
    assert!(lines[0].contains("선택형_em"), "{}", lines[0]);
    assert_eq!(lines[1].split(',').count(), columns);
    assert!(
        lines[1].starts_with("1,inference_epoch9.json,9,complete,12,12,"),
        "{}",
        lines[1]
    );
    assert!(
        lines[5].ends_with("\"broken: 3:14: trailing comma, \"\"x\"\"\""),
        "{}",
        lines[5]
    );
}

#[test]
fn markdown_tables_keep_their_width() {
    let mut board = board();
    board.rows[0].scored.file = "a|b.json".to_owned();
    let text = markdown(&board);
    let bars = |line: &str| line.replace("\\|", "").matches('|').count();
    let first_table: Vec<&str> = text
        .lines()
        .skip_while(|line| !line.starts_with('|'))
        .take_while(|line| line.starts_with('|'))
        .collect();
    assert_eq!(first_table.len(), 2 + 5, "{text}");
    assert!(first_table.iter().all(|line| bars(line) == 11), "{text}");
    assert!(text.contains("| 1 (tie) | a\\|b.json | 0.6000 |"), "{text}");
}

#[test]
fn a_board_without_a_ranked_file_says_so() {
    let mut board = board();
    let provenance = board.provenance.clone();
    let partial = board.rows.remove(3).scored;
    let board = Leaderboard::new(vec![partial], provenance, Resampling::default());
    let text = text(&board);
    assert!(
        text.contains("Best Final Mean:\n   none: no file answers every label"),
        "{text}"
    );
    assert!(json(&board)["best"].is_null());
}

#[test]
fn old_scores_of_a_file_being_rewritten_stay_ranked_and_marked() {
    let mut rewritten = scored("inference_epoch1.json", 9, 12);
    rewritten.state = FileState::Pending {
        reason: "ends early".to_owned(),
    };
    let mut deleted = scored("inference_epoch2.json", 12, 12);
    deleted.state = FileState::Gone;
    let board = Leaderboard::new(
        vec![scored("inference_epoch0.json", 3, 12), rewritten, deleted],
        board().provenance,
        Resampling::default(),
    );
    assert_eq!(board.best().unwrap().scored.file, "inference_epoch1.json");
    assert_eq!(board.ranked().count(), 2);
    let text = text(&board);
    assert!(
        text.contains("pending: ends early (scores of the last good version)"),
        "{text}"
    );
    assert!(
        text.contains("gone (scores of the last good version)"),
        "{text}"
    );
    assert_eq!(json(&board)["files"][0]["stale"], true);
}
