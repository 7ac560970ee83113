use super::*;

#[test]
fn overrides_reach_every_kind_of_value() {
    let experiment = overridden(&[
        "grpo.num_generations=4",
        "grpo.learning_rate = 1e-5",
        "model.device=cuda:1",
        "model.path=models/other model",
        "run.name=2026",
        "run.report_to=[\"tensorboard\"]",
        "lora.target_modules=all-linear",
        "bertscore.model=enc",
        "bertscore.model=none",
        "data.shuffle_dataset=false",
        "data.chat_template_kwargs.enable_thinking=false",
        "data.chat_template_kwargs.style.tone=plain",
        "data.system_prompt=날짜 = 오늘",
        "data.date_string=2026-11-22",
    ])
    .unwrap();
    assert_eq!(experiment.grpo.num_generations, 4);
    assert_eq!(experiment.grpo.learning_rate, 1e-5);
    assert_eq!(experiment.model.device, DeviceChoice::Cuda(Some(1)));
    assert_eq!(experiment.model.path, Path::new("models/other model"));
    assert_eq!(experiment.run.name.as_deref(), Some("2026"));
    assert_eq!(experiment.run.report_to, [Reporter::Tensorboard]);
    assert_eq!(experiment.lora.target_modules, TargetModules::all_linear());
    assert_eq!(experiment.bertscore.model, None);
    assert!(!experiment.data.shuffle_dataset);
    assert_eq!(
        experiment.data.chat_template_kwargs["enable_thinking"],
        false
    );
    assert_eq!(
        experiment.data.chat_template_kwargs["style"]["tone"],
        "plain"
    );
    assert_eq!(
        experiment.data.system_prompt.as_deref(),
        Some("날짜 = 오늘")
    );
    assert_eq!(experiment.data.date_string.as_deref(), Some("2026-11-22"));
}

#[test]
fn faults_of_overrides_name_the_override() {
    assert_eq!(
        overridden(&[
            "grpo.num_generation=4",
            "grpo.loss_type=ppo",
            "num_generations=4",
            "grop.beta=1",
            "beta",
            "grpo.beta.x=1",
            "grpo.epsilon=2",
            "rollout.top_k=1\nx = 2",
        ])
        .unwrap_err(),
        [
            "--set grpo.num_generation=4: grpo.num_generation: unknown key; did you mean num_generations?",
            "--set grpo.loss_type=ppo: grpo.loss_type = ppo: not one of the allowed values; write one of \"grpo\", \"bnpo\", \"dr_grpo\", \"dapo\", \"luspo\", \"cispo\", \"sapo\", \"vespo\"",
            "--set num_generations=4: num_generations: has no section; did you mean grpo.num_generations?",
            "--set grop.beta=1: grop.beta: unknown section; did you mean [grpo]?",
            "--set beta: not an override; write --set section.key=value, e.g. --set grpo.num_generations=4",
            "--set grpo.beta.x=1: grpo.beta.x: is not a table; write --set grpo.beta=value",
            "--set rollout.top_k=1\nx = 2: rollout.top_k = 1 x = 2: is a string; write a whole number of at least 0",
            "--set grpo.epsilon=2: grpo.epsilon = 2: is out of range; write a number between 0 and 1, e.g. 0.2",
        ]
    );
}

#[test]
fn an_override_replaces_a_fault_of_the_file() {
    let text = with("[grpo]\nbeta = \"x\"");
    assert_eq!(faults_of(&text).len(), 1);
    let experiment = Experiment::parse(&text, &["grpo.beta=0.04".to_owned()]).unwrap();
    assert_eq!(experiment.grpo.beta, 0.04);
}
