use super::*;

#[test]
fn the_batch_rule_names_the_nearest_legal_values() {
    assert_eq!(
        one_fault(&with("[grpo]\nper_device_train_batch_size = 10")),
        "line 8, column 1: grpo.per_device_train_batch_size = 10: B = 10 completions is not a multiple of G = num_generations = 8, so a group would be split; set B to 8 or 16, or G to 5 or 10; batch_unit = \"prompts\" has no such rule"
    );
    assert!(
        faults_of(&with(
            "[grpo]\nper_device_train_batch_size = 10\nbatch_unit = \"prompts\""
        ))
        .is_empty()
    );
    let default = one_fault(&with("[grpo]\nnum_generations = 3"));
    assert!(
        default.contains("grpo.per_device_train_batch_size = 8 (default): B = 8"),
        "{default}"
    );
    let alone = one_fault(&with("[grpo]\nnum_generations = 1"));
    assert!(
        alone.contains("compares the completions of a group with each other"),
        "{alone}"
    );
}

#[test]
fn a_refused_value_causes_no_second_fault() {
    // With G refused, B = 10 must not be compared with the default of G.
    let fault = one_fault(&with(
        "[grpo]\nnum_generations = true\nper_device_train_batch_size = 10",
    ));
    assert!(
        fault.contains("grpo.num_generations = true: is true or false"),
        "{fault}"
    );
}

#[test]
fn each_rule_is_checked_on_its_own() {
    for (text, key, words) in [
        (
            "[rollout]\ntemperature = 0",
            "rollout.temperature",
            "inference.temperature",
        ),
        ("[rollout]\ntop_p = 0.0", "rollout.top_p", "1.0 keeps all"),
        ("[rollout]\nmin_p = 2", "rollout.min_p", "from 0 to 1"),
        (
            "[rollout]\nmax_completion_length = 0",
            "rollout.max_completion_length",
            "at least 1",
        ),
        (
            "[rollout]\nstop_token_ids = [1, -1]",
            "rollout.stop_token_ids[1]",
            "at least 0",
        ),
        (
            "[inference]\ntemperature = -1",
            "inference.temperature",
            "at least 0",
        ),
        (
            "[inference]\nbatch_size = 0",
            "inference.batch_size",
            "at least 1",
        ),
        (
            "[model]\nnum_devices = 0",
            "model.num_devices",
            "at least 1",
        ),
        (
            "[lora]\nuse_rslora = true\nr = 16",
            "lora.use_rslora",
            "32.0000",
        ),
        ("[lora]\nr = 0", "lora.r", "at least 1"),
        (
            "[run]\nwatchdog_minutes = -1",
            "run.watchdog_minutes",
            "from 0 (no alarm)",
        ),
        (
            "[lora]\nlora_dropout = 1.0",
            "lora.lora_dropout",
            "up to, but not, 1",
        ),
        (
            "[lora]\ntarget_modules = []",
            "lora.target_modules",
            "all-linear",
        ),
        (
            "[lora]\ntarget_modules = [\"q_pro\"]",
            "lora.target_modules[0]",
            "q_proj",
        ),
        (
            "[quantization]\nbnb_4bit_quant_type = \"fp4\"",
            "quantization.bnb_4bit_quant_type",
            "nf4",
        ),
        (
            "[data.chat_template_kwargs]\nmessages = []",
            "data.chat_template_kwargs",
            "sets messages",
        ),
        (
            "[data.chat_template_kwargs]\ndate_string = \"2025-07-04\"",
            "data.chat_template_kwargs",
            "data.date_string",
        ),
        ("[grpo]\nmax_steps = 0", "grpo.max_steps", "-1"),
        ("[grpo]\nlearning_rate = 1e6", "grpo.learning_rate", "1e-6"),
        (
            "[grpo]\nlearning_rate = nan",
            "grpo.learning_rate",
            "finite",
        ),
        ("[grpo]\nwarmup_steps = 3", "grpo.lr_scheduler_type", ""),
        (
            "[grpo]\nwarmup_steps = 3\nlr_scheduler_type = \"constant\"",
            "grpo.lr_scheduler_type",
            "constant_with_warmup",
        ),
        (
            "[grpo]\nwarmup_steps = 3\nwarmup_ratio = 0.1",
            "grpo.warmup_ratio",
            "keep one",
        ),
        (
            "[grpo]\nadam_beta2 = 1.0",
            "grpo.adam_beta2",
            "up to, but not, 1",
        ),
        ("[grpo]\nbeta = -0.1", "grpo.beta", "at least 0"),
        ("[grpo]\ndelta = 0.5", "grpo.delta", "above 1"),
        (
            "[grpo]\nnum_iterations = 0",
            "grpo.num_iterations",
            "at least 1",
        ),
        (
            "[reward]\nformat_pattern = '('",
            "reward.format_pattern",
            "unclosed group",
        ),
        (
            "[reward]\nformat_pattern = '(?=a)'",
            "reward.format_pattern",
            "look-around",
        ),
        ("[reward]\nformula = ' '", "reward.formula", "is empty"),
        (
            "[reward]\nrouge_tokenizer = \"mecab\"",
            "reward.rouge_tokenizer",
            "mecab_dict",
        ),
        (
            "[reward]\nanswer_endings = [\"\"]",
            "reward.answer_endings",
            "empty ending",
        ),
        (
            "[reward]\ncommands = [{ name = \"a b\", command = [\"x\"] }]",
            "reward.commands[0].name",
            "letters",
        ),
        (
            "[reward]\ncommands = [{ name = \"rouge1\", command = [\"x\"] }]",
            "reward.commands[0].name",
            "built-in",
        ),
        (
            "[reward]\ncommands = [{ name = \"a\", command = [] }]",
            "reward.commands[0].command",
            "program",
        ),
        (
            "[reward]\ncommands = [{ nam = \"a\", name = \"a\", command = [\"x\"] }]",
            "reward.commands[0].nam",
            "did you mean name",
        ),
        (
            "[reward]\ncommands = [{ name = \"a\" }]",
            "reward.commands[0]",
            "has no command",
        ),
        (
            "[bertscore]\nrescale_with_baseline = true",
            "bertscore.rescale_with_baseline",
            "baseline_path",
        ),
        (
            "[bertscore]\nnum_layers = 0",
            "bertscore.num_layers",
            "at least 1",
        ),
        ("[sft]\ninit = \"random\"", "sft.init", "full_finetuning"),
        ("[run]\nname = \"../up\"", "run.name", "slash"),
        (
            "[run]\nsave_strategy = \"steps\"\nsave_steps = 0",
            "run.save_steps",
            "at least 1",
        ),
        (
            "[run]\nsave_total_limit = 0",
            "run.save_total_limit",
            "at least 1",
        ),
        ("[run]\nseed = -1", "run.seed", "at least 0"),
        (
            "[run]\nreport_to = \"tensorboard\"",
            "run.report_to",
            "brackets",
        ),
        ("[memory]\nbudget_gib = 0", "memory.budget_gib", "above 0"),
    ] {
        let (model, rest) = match text.strip_prefix("[model]\n") {
            Some(rest) => (rest, ""),
            None => ("", text),
        };
        let text = SMALLEST.replace("[data]", &format!("{model}\n[data]")) + rest;
        let faults = faults_of(&text);
        if words.is_empty() {
            assert!(faults.is_empty(), "{text}: {faults:#?}");
            continue;
        }
        assert_eq!(faults.len(), 1, "{text}: {faults:#?}");
        assert!(
            faults[0].contains(&format!(" {key}")) && faults[0].contains(words),
            "{}",
            faults[0]
        );
        assert!(faults[0].starts_with("line "), "{}", faults[0]);
    }
}

#[test]
fn one_device_by_number_cannot_be_several() {
    let text = "[model]\npath = \"m\"\ndevice = \"cuda:1\"\nnum_devices = 2\n[data]\ntrain = \"a\"\neval = \"b\"";
    let fault = one_fault(text);
    assert!(
        fault.contains("model.num_devices = 2") && fault.contains("names one"),
        "{fault}"
    );
}
