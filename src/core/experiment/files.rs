//! Checks that the files that an experiment names exist. Separate from validation, so that a run
//! can be planned on a machine without the model.

use std::path::Path;

use super::choices::{RougeTokenizer, SftInit};
use super::{Experiment, Fault};

impl Experiment {
    /// The faults of the files that training needs: model folder, data, encoder, dictionary and
    /// the programs of reward commands. Checks names only and reads no content.
    pub fn check_files(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        self.check_model(&mut faults, true);
        let data = &self.data;
        let files = [
            ("data.train", Some(&data.train)),
            ("data.eval", Some(&data.eval)),
            ("data.labels", data.labels.as_ref()),
            ("data.instruct", data.instruct.as_ref()),
            (
                "data.few_shot",
                data.few_shot.as_ref().filter(|_| data.num_few_shot > 0),
            ),
            ("data.chat_template", data.chat_template.as_ref()),
        ];
        for (key, path) in files {
            check_file(&mut faults, key, path.map(|path| path.as_path()));
        }
        if let Some(adapter) = &self.lora.init_adapter {
            let parts = ["adapter_config.json", "adapter_model.safetensors"];
            check_folder(&mut faults, "lora.init_adapter", adapter, &parts);
        }
        self.check_encoder(&mut faults);
        if self.reward.rouge_tokenizer == RougeTokenizer::Mecab
            && let Some(dictionary) = &self.reward.mecab_dict
        {
            let parts = ["sys.dic", "unk.dic", "matrix.bin", "char.bin"];
            check_folder(&mut faults, "reward.mecab_dict", dictionary, &parts);
        }
        for (index, command) in self.reward.commands.iter().enumerate() {
            if let Some(program) = command.command.first()
                && !program_exists(program)
            {
                faults.push(Fault::new(
                    format!("reward.commands[{index}].command"),
                    Some(format!("{program:?}")),
                    "there is no such program",
                    "correct the path, or install the program on PATH",
                ));
            }
        }
        faults
    }

    /// As [`Experiment::check_files`], for `moim sft`.
    pub fn check_sft_files(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        self.check_model(&mut faults, self.sft.init == SftInit::Pretrained);
        match &self.sft.train {
            Some(train) => check_file(&mut faults, "sft.train", Some(train)),
            None => check_file(&mut faults, "data.train", Some(&self.data.train)),
        }
        check_file(&mut faults, "data.instruct", self.data.instruct.as_deref());
        check_file(
            &mut faults,
            "data.chat_template",
            self.data.chat_template.as_deref(),
        );
        if self.sft.output_dir.is_none() {
            faults.push(Fault::new(
                "sft.output_dir",
                None,
                "is missing",
                "write output_dir = \"models/…\" under [sft]: the trained model is written there",
            ));
        }
        faults
    }

    fn check_model(&self, faults: &mut Vec<Fault>, needs_weights: bool) {
        let path = &self.model.path;
        let found = faults.len();
        check_folder(
            faults,
            "model.path",
            path,
            &["config.json", "tokenizer.json"],
        );
        if faults.len() == found && needs_weights && !has_weights(path, &["safetensors"]) {
            faults.push(Fault::new(
                "model.path",
                Some(quoted(path)),
                "the folder has no .safetensors weights",
                "download the whole model, or convert its weights to safetensors",
            ));
        }
    }

    fn check_encoder(&self, faults: &mut Vec<Fault>) {
        let Some(model) = &self.bertscore.model else {
            // Only a formula that uses it needs it; ranking can be given its own encoder.
            let names = self
                .reward
                .formula
                .split(|c: char| !c.is_alphanumeric() && c != '_');
            if names.into_iter().any(|name| name == "bertscore") {
                faults.push(Fault::new(
                    "bertscore.model",
                    None,
                    "is not set, and reward.formula uses bertscore",
                    "write model = \"…\" under [bertscore]: a Hugging Face folder of a BERT, RoBERTa \
                     or XLM-R encoder; or set a formula without it, for example \
                     reward.formula = \"(exact_match + (format + 3*rouge1)/2)/3\"",
                ));
            }
            return;
        };
        let found = faults.len();
        check_folder(faults, "bertscore.model", model, &["config.json"]);
        if faults.len() == found && !has_weights(model, &["safetensors", "bin"]) {
            faults.push(Fault::new(
                "bertscore.model",
                Some(quoted(model)),
                "the folder has no weights",
                "download the whole model",
            ));
        }
        if self.bertscore.rescale_with_baseline {
            check_file(
                faults,
                "bertscore.baseline_path",
                self.bertscore.baseline_path.as_deref(),
            );
        }
    }
}

fn quoted(path: &Path) -> String {
    format!("{:?}", path.display().to_string())
}

fn check_file(faults: &mut Vec<Fault>, key: &str, path: Option<&Path>) {
    let Some(path) = path else { return };
    let (problem, hint) = match crate::regular_file::open(path).and_then(|file| file.metadata()) {
        Ok(metadata) if metadata.is_dir() => {
            ("is a folder".to_owned(), "name the file in it".to_owned())
        }
        Ok(_) => return,
        Err(error) => (format!("cannot be read: {error}"), path_hint(path)),
    };
    faults.push(Fault::new(key, Some(quoted(path)), problem, hint));
}

fn check_folder(faults: &mut Vec<Fault>, key: &str, path: &Path, needed: &[&str]) {
    let fault = match std::fs::metadata(path) {
        Err(error) => (format!("cannot be read: {error}"), path_hint(path)),
        Ok(metadata) if !metadata.is_dir() => (
            "is not a folder".to_owned(),
            "name the folder that contains the files".to_owned(),
        ),
        Ok(_) => {
            let missing: Vec<&str> = needed
                .iter()
                .copied()
                .filter(|name| !path.join(name).is_file())
                .collect();
            if missing.is_empty() {
                return;
            }
            (
                format!("the folder has no {}", missing.join(" and no ")),
                "add what is missing".to_owned(),
            )
        }
    };
    faults.push(Fault::new(key, Some(quoted(path)), fault.0, fault.1));
}

/// How to fix a path that does not exist: names its longest part that does.
fn path_hint(path: &Path) -> String {
    let existing = path.ancestors().skip(1).find(|ancestor| ancestor.exists());
    let relative = if path.is_relative() {
        "; paths are relative to the current directory"
    } else {
        ""
    };
    match existing {
        Some(ancestor) if !ancestor.as_os_str().is_empty() => {
            format!("correct the path ({} exists){relative}", ancestor.display())
        }
        _ => format!("correct the path{relative}"),
    }
}

fn has_weights(folder: &Path, extensions: &[&str]) -> bool {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).any(|file| {
        file.extension()
            .is_some_and(|own| extensions.iter().any(|extension| own == *extension))
    })
}

fn program_exists(program: &str) -> bool {
    if program.contains('/') {
        return Path::new(program).is_file();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}
