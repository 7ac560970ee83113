//! Folders, pipes, devices, loops of links and links out of the folder instead of files.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use moim::architecture::LlamaConfig;
use moim::dataset::{AnswerFile, Instructions, load_records};
use moim::device::Compute;
use moim::encoder::matching::Baseline;
use moim::encoder::{BertScoreOptions, BertScorer};
use moim::experiment::Experiment;
use moim::model::{Llama, load_adapter};
use moim::run::{
    Event, Progress, RunDir, RunState, Tail, checkpoints, file_fingerprint, list_runs,
    model_fingerprint, read_lines,
};
use moim::score::{Labels, ScoreCache, answer_files};
use moim::text::{ChatTemplate, MecabDictionary, SpecialTokens, StopSet, Tokenizer};
use moim::watch::{WatchOptions, Watcher};
use rustix::fs::{CWD, Mode, mkfifoat};

use super::harness::run_case;
use super::miniature;
use super::readers::{Folder, repository, shown, told};
use crate::allocator::alone;

type Read = fn(&Path) -> Result<(), String>;

/// Readers of one file, by its path.
const READERS: [(&str, Read); 14] = [
    ("experiment.toml", |path| {
        Experiment::load(path, &[]).map(|_| ()).map_err(shown)
    }),
    ("data.json", |path| {
        load_records(path).map(|_| ()).map_err(shown)
    }),
    ("instruct.json", |path| {
        Instructions::load(path).map(|_| ()).map_err(told)
    }),
    ("inference_epoch1.json", |path| {
        AnswerFile::read(path).map(|_| ()).map_err(shown)
    }),
    ("labels.json", |path| {
        Labels::load(path).map(|_| ()).map_err(shown)
    }),
    ("tokenizer.json", |path| {
        Tokenizer::from_file(path).map(|_| ()).map_err(told)
    }),
    ("template.jinja", |path| {
        ChatTemplate::from_file(path, SpecialTokens::default())
            .map(|_| ())
            .map_err(told)
    }),
    ("template.json", |path| {
        ChatTemplate::from_file(path, SpecialTokens::default())
            .map(|_| ())
            .map_err(told)
    }),
    ("baseline.tsv", |path| {
        Baseline::from_file(path, 0).map(|_| ()).map_err(told)
    }),
    ("events.jsonl", |path| {
        read_lines::<Event>(path).map(|_| ()).map_err(shown)
    }),
    ("followed.jsonl", |path| {
        Tail::from_start(path)
            .look()
            .map(|_| ())
            .map_err(|error| format!("{}: {error}", path.display()))
    }),
    ("run.json", |path| {
        RunState::read(path).map(|_| ()).map_err(told)
    }),
    ("progress.json", |path| {
        Progress::read(path).map(|_| ()).map_err(told)
    }),
    ("fingerprinted", |path| {
        file_fingerprint(path).map(|_| ()).map_err(told)
    }),
];

/// Puts a pipe, a folder and an endless device at `path`, one at a time.
fn each_strange_thing(path: &Path, mut check: impl FnMut(&str)) {
    mkfifoat(CWD, path, Mode::RWXU).unwrap();
    check("a pipe");
    std::fs::remove_file(path).unwrap();
    std::fs::create_dir(path).unwrap();
    check("a folder");
    std::fs::remove_dir(path).unwrap();
    symlink("/dev/zero", path).unwrap();
    check("a device");
    std::fs::remove_file(path).unwrap();
    symlink(path.file_name().unwrap(), path).unwrap();
    check("a loop");
    std::fs::remove_file(path).unwrap();
}

#[test]
fn what_is_no_file_is_refused_by_name_and_nothing_waits() {
    let _alone = alone();
    for (name, read) in READERS {
        let folder = Folder::new();
        let path = folder.path().join(name);
        each_strange_thing(&path, |what| {
            let taken = run_case(name, b"", (0, 1 << 20), name, |_| read(&path));
            assert_eq!(taken, Ok(false), "{name} that is {what}");
        });
    }
}

/// A folder, the files it has, and how it is read whole.
type FolderReader<'a> = (
    &'a str,
    &'a [&'a str],
    Box<dyn Fn(&Path) -> Result<(), String> + 'a>,
);

#[test]
fn a_folder_with_something_else_where_a_file_should_be_is_refused() {
    let _alone = alone();
    let compute = Compute::cpu();
    let config = LlamaConfig::from_dir(&repository("tests/golden/model/tiny_llama")).unwrap();
    let whole: [FolderReader<'_>; 4] = [
        (
            "tests/golden/model/tiny_llama",
            &["config.json", "model.safetensors"],
            Box::new(|path| Llama::load(path, &Compute::cpu()).map(|_| ()).map_err(told)),
        ),
        (
            "data/demo/model",
            &[
                "tokenizer.json",
                "tokenizer_config.json",
                "generation_config.json",
            ],
            Box::new(|path| {
                let tokenizer = Tokenizer::from_model_dir(path).map_err(told)?;
                ChatTemplate::from_model_dir(path).map_err(told)?;
                StopSet::from_model_dir(path, &tokenizer, &[])
                    .map(|_| ())
                    .map_err(told)
            }),
        ),
        (
            "tests/golden/model/peft/attention_r4",
            &["adapter_config.json", "adapter_model.safetensors"],
            Box::new(|path| {
                load_adapter(path, &config, &compute)
                    .map(|_| ())
                    .map_err(told)
            }),
        ),
        (
            "tests/golden/encoder/bert",
            &[
                "config.json",
                "tokenizer.json",
                "tokenizer_config.json",
                "model.safetensors",
            ],
            Box::new(|path| {
                let options = BertScoreOptions::default();
                BertScorer::load(path, &options, &compute.device)
                    .map(|_| ())
                    .map_err(told)
            }),
        ),
    ];
    for (from, files, read) in &whole {
        for name in *files {
            let folder = Folder::with(from, files);
            assert_eq!(read(folder.path()), Ok(()), "{from} whole");
            let path = folder.path().join(name);
            std::fs::remove_file(&path).unwrap();
            let place = folder.path().display().to_string();
            each_strange_thing(&path, |what| {
                let taken = run_case(name, b"", (0, 32 << 20), &place, |_| read(folder.path()));
                assert_eq!(taken, Ok(false), "{from}/{name} that is {what}");
            });
        }
    }
    let folder = Folder::new();
    miniature::write_dictionary(folder.path());
    for name in ["sys.dic", "unk.dic", "matrix.bin", "char.bin", "dicrc"] {
        let path = folder.path().join(name);
        let content = std::fs::read(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        each_strange_thing(&path, |what| {
            let open = |_: &[u8]| {
                MecabDictionary::open(folder.path())
                    .map(|_| ())
                    .map_err(shown)
            };
            let taken = run_case(name, b"", (0, 1 << 20), name, open);
            assert_eq!(taken, Ok(false), "{name} that is {what}");
        });
        std::fs::write(&path, content).unwrap();
    }
}

#[test]
fn an_experiment_that_names_no_files_is_refused() {
    let folder = Folder::new();
    let path = folder.path().join("train.json");
    let mut experiment = Experiment::default();
    experiment.data.train = path.clone();
    each_strange_thing(&path, |what| {
        let taken = run_case("check_files", b"", (0, 1 << 20), "train.json", |_| {
            Err(format!("{:?}", experiment.check_files()))
        });
        assert_eq!(taken, Ok(false), "{what}");
    });
}

#[test]
fn a_kept_score_that_is_no_file_is_none() {
    let _alone = alone();
    let folder = Folder::new();
    let cache = ScoreCache::new(folder.path());
    each_strange_thing(&folder.path().join("inference_epoch1.json"), |what| {
        let taken = run_case("kept scores", b"", (0, 1 << 20), "", |_| {
            cache
                .read("inference_epoch1.json")
                .map(|_| ())
                .ok_or("none".to_owned())
        });
        assert_eq!(taken, Ok(false), "{what}");
    });
}

/// Weights that an index names are in its folder, whatever it says.
#[test]
fn an_index_that_points_outside_its_folder_is_refused_by_name() {
    for (from, files, weights) in [
        (
            "tests/golden/model/tiny_llama",
            &["config.json"][..],
            "model.safetensors",
        ),
        (
            "tests/golden/encoder/bert",
            &["config.json", "tokenizer.json"][..],
            "model.safetensors",
        ),
    ] {
        let outside = Folder::with(from, &[weights]);
        for name in [
            format!(
                "../{}/{weights}",
                outside.path().file_name().unwrap().display()
            ),
            format!("{}/{weights}", outside.path().display()),
            "../../../../../../etc/passwd".to_owned(),
            "/etc/passwd".to_owned(),
            "a/../../b".to_owned(),
            "..\\b".to_owned(),
            "..".to_owned(),
        ] {
            let folder = Folder::with(from, files);
            let index = serde_json::json!({"weight_map": {"model.norm.weight": name}});
            folder.write("model.safetensors.index.json", index.to_string().as_bytes());
            let error = if from.contains("encoder") {
                let options = BertScoreOptions::default();
                let loaded = BertScorer::load(folder.path(), &options, &Compute::cpu().device);
                loaded.map(|_| ()).map_err(told)
            } else {
                Llama::load(folder.path(), &Compute::cpu())
                    .map(|_| ())
                    .map_err(told)
            };
            let error = error.unwrap_err();
            for part in ["model.safetensors.index.json", "points outside the folder"] {
                assert!(error.contains(part), "{name}: {error}");
            }
        }
    }
}

#[test]
fn folders_that_lead_back_into_themselves_are_listed_to_the_end() {
    let _alone = alone();
    let outputs = Folder::new();
    let run = outputs.path().join("demo/one");
    outputs.write("demo/one/experiment.toml", b"");
    outputs.write("demo/one/infer_results/inference_epoch1.json", b"[]");
    for (target, link) in [
        (outputs.path(), "demo/up"),
        (outputs.path(), "loop"),
        (run.as_path(), "demo/one/epoch_1"),
        (run.as_path(), "demo/one/infer_results/again.json"),
        (Path::new("self"), "demo/self"),
        (Path::new("absent"), "demo/dangling"),
    ] {
        symlink(target, outputs.path().join(link)).unwrap();
    }
    let taken = run_case("loops", b"", (0, 8 << 20), "", |_| {
        let runs = list_runs(outputs.path());
        assert!(runs.len() < 10, "{}", runs.len());
        checkpoints(&run).map_err(told)?;
        model_fingerprint(&run).map_err(told)?;
        answer_files(&run, None).map_err(shown)?;
        RunDir::open(&run).map_err(told)?.clean_up().map_err(told)
    });
    assert_eq!(taken, Ok(true));
}

/// Everything that an answer file can be, in a folder that is watched.
#[test]
fn a_watched_folder_of_strange_things_is_reported_and_does_not_hang() {
    let folder = Folder::new();
    let answers = br#"[{"id": "1", "answer": "a"}]"#;
    let labels = Labels::load(&folder.write("labels.json", answers)).unwrap();
    let watched = folder.path().join("infer_results");
    std::fs::create_dir(&watched).unwrap();
    mkfifoat(CWD, watched.join("inference_epoch1.json"), Mode::RWXU).unwrap();
    std::fs::create_dir(watched.join("inference_epoch2.json")).unwrap();
    symlink("/dev/zero", watched.join("inference_epoch3.json")).unwrap();
    symlink(&watched, watched.join("inference_epoch4.json")).unwrap();
    symlink(
        "inference_epoch5.json",
        watched.join("inference_epoch5.json"),
    )
    .unwrap();
    std::fs::write(watched.join("inference_epoch6.json"), answers).unwrap();
    let watcher = Watcher::start(&watched, Arc::new(labels), WatchOptions::default()).unwrap();
    let mut seen = String::new();
    while !seen.contains("inference_epoch6.json") {
        let update = watcher
            .updates()
            .recv_timeout(Duration::from_secs(30))
            .unwrap();
        seen.push_str(&format!("{update:?}"));
    }
}
