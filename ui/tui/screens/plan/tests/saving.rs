use super::*;

#[test]
fn saving_replaces_what_was_read_and_nothing_else() {
    let mut scene = scene();
    let mut plan = plan(&scene);
    edited(&mut plan, &scene, "grpo.beta", "0.1");
    let commands = plan.act(Action::Save, &scene.context());
    let saved = VALID.replace("0.04", "0.1");
    let write = Effect::Write {
        path: PathBuf::from(OPEN),
        text: saved.clone(),
        replaces: Some(VALID.into()),
    };
    assert_eq!(commands, [Command::Effect(write)]);
    plan.written(&PathBuf::from("experiments/demo.toml"));
    assert_eq!(status(&plan, &scene), "표준어 (unsaved)");
    plan.written(&PathBuf::from(OPEN));
    assert_eq!(status(&plan, &scene), "표준어");
    // What was read before it was written is no news.
    assert!(plan.refresh(&scene.context()).is_empty());
    assert_eq!(text(&plan), saved);
    on_disk(&mut scene, &saved);
    assert!(plan.refresh(&scene.context()).is_empty());
}

#[test]
fn a_file_that_changes_on_the_disk_is_read_again_or_asked_about() {
    let mut scene = scene();
    let mut plan = plan(&scene);
    let theirs = VALID.replace("8         # G", "16 # G, 둘 배");
    on_disk(&mut scene, &theirs);
    plan.refresh(&scene.context());
    assert_eq!(text(&plan), theirs);
    edited(&mut plan, &scene, "grpo.beta", "0.1");
    let mine = text(&plan).to_owned();
    on_disk(&mut scene, VALID);
    assert_eq!(plan.refresh(&scene.context()).len(), 1);
    assert!(plan.refresh(&scene.context()).is_empty(), "said once");
    assert_has(&scene.drawn(&plan), &["(changed on the disk)"]);
    let commands = plan.act(Action::Save, &scene.context());
    let dialog = question(&commands);
    let over = Effect::Write {
        path: PathBuf::from(OPEN),
        text: mine.clone(),
        replaces: Some(VALID.into()),
    };
    assert_eq!(answer(dialog, 'o'), [Command::Effect(over)]);
    assert_eq!(answer(dialog, 'r'), [Command::Plan(PathBuf::from(OPEN))]);
    plan.load(&PathBuf::from(OPEN));
    assert_eq!(text(&plan), VALID);
    plan.act(Action::Undo, &scene.context());
    assert_eq!(text(&plan), mine);
}

#[test]
fn changes_outlive_another_file_and_another_screen() {
    let scene = scene();
    let mut plan = plan(&scene);
    edited(&mut plan, &scene, "grpo.beta", "0.1");
    let mine = text(&plan).to_owned();
    plan.load(&PathBuf::from("experiments/demo.toml"));
    plan.refresh(&scene.context());
    assert_eq!(status(&plan, &scene), "demo");
    plan.load(&PathBuf::from(OPEN));
    plan.refresh(&scene.context());
    assert_eq!(text(&plan), mine);
    plan.load(&PathBuf::from(OPEN));
    assert_eq!(text(&plan), mine);
}

#[test]
fn a_start_saves_first_where_there_are_changes() {
    let mut scene = scene();
    let mut plan = plan(&scene);
    edited(&mut plan, &scene, "grpo.beta", "0.1");
    let commands = plan.act(Action::Start, &scene.context());
    let save = answer(question(&commands), 's');
    assert!(matches!(
        save.as_slice(),
        [Command::Effect(Effect::Write { .. })]
    ));
    plan.written(&PathBuf::from(OPEN));
    assert!(
        plan.refresh(&scene.context()).is_empty(),
        "not before it was read"
    );
    let saved = VALID.replace("0.04", "0.1");
    on_disk(&mut scene, &saved);
    let look = Effect::FindDuplicates {
        experiment: PathBuf::from(OPEN),
    };
    assert!(plan.refresh(&scene.context()).contains(&look.into()));
    // A save of its own starts nothing.
    edited(&mut plan, &scene, "grpo.beta", "0.2");
    plan.act(Action::Start, &scene.context());
    plan.act(Action::Save, &scene.context());
    plan.written(&PathBuf::from(OPEN));
    on_disk(&mut scene, &VALID.replace("0.04", "0.2"));
    assert!(plan.refresh(&scene.context()).is_empty());
    let queued = plan.act(Action::Queue, &scene.context());
    assert_eq!(queued, [Command::Enqueue(PathBuf::from(OPEN))]);
}

#[test]
fn what_is_no_toml_can_only_be_corrected_in_an_editor() {
    let mut scene = scene();
    on_disk(&mut scene, "[model]\npath = \n");
    let mut plan = plan(&scene);
    let lines = scene.drawn(&plan);
    assert_has(&lines, &["✗", "line 2"]);
    assert_has(&lines, &["No plan yet: line 2 is not TOML"]);
    plan.act(Action::Open, &scene.context());
    assert!(!plan.is_typing());
    let commands = plan.act(Action::OpenInEditor, &scene.context());
    assert_eq!(
        commands,
        [Command::Effect(Effect::OpenInEditor(PathBuf::from(OPEN)))]
    );
}

#[test]
fn what_is_handed_out() {
    let scene = scene();
    let mut plan = plan(&scene);
    edited(&mut plan, &scene, "grpo.beta", "0.1");
    let copied = plan.act(Action::Copy, &scene.context());
    assert_eq!(
        copied,
        [Command::Effect(Effect::Copy("grpo.beta = 0.1".to_owned()))]
    );
    let cloned = plan.act(Action::Clone, &scene.context());
    let [Command::Input(input)] = cloned.as_slice() else {
        panic!("{cloned:?}")
    };
    let purpose = InputPurpose::NewExperiment {
        text: text(&plan).to_owned(),
    };
    assert_eq!(
        (input.initial.as_str(), &input.purpose),
        ("표준어-2", &purpose)
    );
    let edited = plan.act(Action::OpenInEditor, &scene.context());
    assert!(matches!(&edited[..], [Command::Tell(notice)] if notice.is_error));
}
