//! Experiment files, overrides, the form's document, and the plan that is made of them.

use moim::experiment::{Document, Experiment};
use moim::memory::{Inputs, Shapes, plan};

use super::{Folder, content, repository, shown};
use crate::fuzz::harness::{MEMORY, Reader, fuzz};
use crate::fuzz::mutate::Form;

const WORDS: &[&str] = &[
    "\n[grpo]\n",
    "[[reward.commands]]\n",
    "num_generations = ",
    "per_device_train_batch_size = 0\n",
    "formula = ",
    "\"\"\"",
    "'''",
    " = nan\n",
    " = -inf\n",
    " = 1979-05-27T07:32:00Z\n",
    " = 0xffffffffffffffff\n",
    "a.b.c.d = 1\n",
    "{a = 1}",
    "target_modules = []\n",
    "\\U00110000",
];

fn files() -> Vec<Vec<u8>> {
    let mut files: Vec<_> = ["demo", "demo-base", "midm-base", "smollm2"]
        .iter()
        .map(|name| content(&format!("experiments/{name}.toml")))
        .collect();
    // Every key there is.
    let whole = Experiment::load(&repository("experiments/demo.toml"), &[]).unwrap();
    files.push(whole.to_toml().into_bytes());
    files
}

#[test]
fn experiment_files() {
    let folder = Folder::new();
    fuzz(Reader {
        name: "experiment.toml",
        form: Form::Text,
        examples: files(),
        words: WORDS,
        cases: 4000,
        memory: MEMORY,
        names: "experiment.toml",
        read: Box::new(|input| {
            let path = folder.write("experiment.toml", input);
            let experiment = Experiment::load(&path, &[]).map_err(shown)?;
            experiment.batch_lines(Some(100));
            experiment.check_files();
            let again = Experiment::parse(&experiment.to_toml(), &[]);
            assert_eq!(
                again.as_ref(),
                Ok(&experiment),
                "what is written is not read again"
            );
            Ok(())
        }),
    });
}

#[test]
fn overrides() {
    let text = String::from_utf8(content("experiments/demo.toml")).unwrap();
    let examples = [
        "grpo.num_generations=4",
        "rollout.stop_token_ids=[1, 2]",
        "lora.target_modules=\"all-linear\"",
        "run.name=한글",
        "data.chat_template_kwargs={a = 1, b = [true]}",
        "data.chat_template_kwargs.a.b.c=1",
        "reward.commands=[{name = \"a\", command = [\"sh\"]}]",
        "reward.formula=(bertscore + exact_match)/2",
        "memory.budget_gib=2.5",
    ];
    fuzz(Reader {
        name: "--set",
        form: Form::Text,
        examples: examples.map(|text| text.as_bytes().to_vec()).into(),
        words: WORDS,
        cases: 4000,
        memory: MEMORY,
        names: "",
        read: Box::new(|input| {
            // The command line only passes text.
            let given = String::from_utf8_lossy(input).into_owned();
            let parsed = Experiment::parse(&text, &[given]);
            parsed.map(|_| ()).map_err(|faults| format!("{faults:?}"))
        }),
    });
}

#[test]
fn documents_of_the_form() {
    fuzz(Reader {
        name: "experiment form",
        form: Form::Text,
        examples: files(),
        words: WORDS,
        cases: 1500,
        memory: (2000, 16 << 20),
        names: "",
        read: Box::new(|input| {
            let text = String::from_utf8_lossy(input);
            let mut document = Document::parse(&text).map_err(shown)?;
            document.understood();
            for key in ["grpo.num_generations", "model.path", "reward.commands"] {
                document.get(key);
                document.typed(key);
                let _ = document.set(key, "8");
                let _ = document.unset(key);
            }
            Ok(())
        }),
    });
}

/// Numbers without measure in both files that a plan follows from.
#[test]
fn plans() {
    let folder = Folder::new();
    let toml = String::from_utf8(content("experiments/demo.toml")).unwrap();
    let overrides = |config: &[u8]| {
        // The numbers of config.json say which keys of the experiment take them as well.
        let digest = blake3::hash(config);
        let keys = [
            "grpo.num_generations",
            "grpo.per_device_train_batch_size",
            "grpo.gradient_accumulation_steps",
            "rollout.max_completion_length",
            "data.max_prompt_length",
            "inference.batch_size",
            "lora.r",
            "model.num_devices",
            "bertscore.batch_size",
        ];
        let numbers = [1, 2, 8, 1 << 20, 1 << 31, 1 << 40, (1 << 62) - 1, i64::MAX];
        digest.as_bytes()[..2]
            .iter()
            .map(|byte| {
                let key = keys[usize::from(*byte) % keys.len()];
                format!("{key}={}", numbers[usize::from(*byte) / 32])
            })
            .collect::<Vec<_>>()
    };
    fuzz(Reader {
        name: "plan",
        form: Form::Json,
        examples: vec![
            content("data/demo/model/config.json"),
            content("tests/golden/model/tiny_llama_rope3/config.json"),
            content("tests/golden/nf4/nf4/config.json"),
        ],
        words: &["hidden_size", "num_hidden_layers", "vocab_size", "head_dim"],
        cases: 4000,
        memory: MEMORY,
        names: "",
        read: Box::new(|input| {
            folder.write("config.json", input);
            let parsed = Experiment::parse(&toml, &overrides(input))
                .or_else(|_| Experiment::parse(&toml, &[]));
            let mut experiment = parsed.map_err(|faults| format!("{faults:?}"))?;
            experiment.model.path = folder.path().to_owned();
            experiment.batch_lines(Some(100));
            let shapes = Shapes::read(&experiment);
            let Some(inputs) = Inputs::of(&experiment, &shapes) else {
                return shapes.decoder.map(|_| ());
            };
            for capacity in [None, Some(1 << 30), Some(u64::MAX)] {
                let plan = plan(&inputs, capacity);
                plan.limits(&inputs).words();
                plan.suggestion(&inputs);
            }
            Ok(())
        }),
    });
}
