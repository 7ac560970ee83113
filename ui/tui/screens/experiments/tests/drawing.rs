use super::*;

#[test]
fn what_changed_is_marked_for_a_while() {
    let mut scene = scene();
    let mut screen = screen(&scene);
    let path = PathBuf::from("outputs/표준어/셋째");
    let change = |screen: &Experiments, scene: &Scene| {
        screen.changes.of(&path, scene.now).map(str::to_owned)
    };
    assert_eq!(change(&screen, &scene), None);
    let done = run("표준어", "셋째", RunStatus::Finished, Liveness::Ended);
    scene.world.index.as_mut().unwrap().runs[0] = Arc::new(done);
    screen.refresh(&scene.context());
    assert_eq!(
        change(&screen, &scene).as_deref(),
        Some("was running, is finished")
    );
    assert!(
        scene
            .drawn(&screen)
            .iter()
            .any(|line| line.contains("* 표준어/셋째"))
    );
    scene.now = scene
        .now
        .checked_add(jiff::SignedDuration::from_secs(60))
        .unwrap();
    assert_eq!(change(&screen, &scene), None);
}

#[test]
fn a_click_selects_and_sorts() {
    let scene = scene();
    let mut screen = screen(&scene);
    let lines = scene.drawn(&screen);
    let line_of = |word: &str| lines.iter().position(|line| line.contains(word)).unwrap() as u16;
    screen.click(Position::new(60, line_of("demo/seed42")), &scene.context());
    assert_eq!(selected(&screen, &scene), Path::new("outputs/demo/seed42"));
    screen.click(Position::new(54, 1), &scene.context());
    assert_eq!(screen.sort, Sort::by(0));
    screen.click(Position::new(5, 3), &scene.context());
    assert_eq!(
        selected(&screen, &scene),
        Path::new("experiments/midm-base.toml")
    );
}

#[test]
fn every_size_shows_both_lists_and_the_details() {
    let mut dead = Experiments::default();
    for (width, height) in [(80, 24), (120, 40), (160, 50)] {
        let scene = Scene::new(world(), width, height);
        after(
            &scene,
            &mut dead,
            &[Action::Right, Action::Top, Action::Down],
        );
        dead.refresh(&scene.context());
        let lines = scene.drawn(&dead);
        assert_has(&lines, &["demo", "✓ valid"]);
        assert_has(&lines, &["midm-base", "✗ 2 faults"]);
        assert_has(&lines, &["▸", "표준어/두", "✗ dead", "53/106"]);
        assert_has(&lines, &["R resumes"]);
        assert_has(&lines, &["step 53: reward 0.8125"]);
    }
    let wide = Scene::new(world(), 160, 50).drawn(&dead);
    assert_has(&wide, &["메모리가 모자랍니다: out of memory"]);
    assert_has(
        &wide,
        &[
            "demo/seed42",
            "✓ finished",
            "██████ 106/106",
            "0.6213 epoch2",
        ],
    );
}

#[test]
fn long_details_are_scrolled() {
    let mut world = world();
    let index = world.index.as_mut().unwrap();
    let mut long = run("demo", "long", RunStatus::Failed, Liveness::Ended);
    long.last_words = (0..40).map(|line| format!("줄 {line}")).collect();
    index.runs.insert(0, Arc::new(long));
    let scene = Scene::new(world, 80, 24);
    let mut screen = screen(&scene);
    after(&scene, &mut screen, &[RUNS, RUNS, Action::Bottom]);
    assert_has(&scene.drawn(&screen), &["folder", "outputs/demo/long"]);
    after(&scene, &mut screen, &[Action::Top]);
    assert_has(&scene.drawn(&screen), &["줄 0"]);
    assert_eq!(run_cursor(&screen, &scene), 0);
    after(&scene, &mut screen, &[Action::Back, Action::Down]);
    assert!(screen.focus.is(Part::Runs) && run_cursor(&screen, &scene) == 1);
}

#[test]
fn the_queue_is_shown_with_its_order() {
    let mut world = world();
    world.queue = ["표준어", "demo"]
        .map(|name| PathBuf::from(format!("experiments/{name}.toml")))
        .to_vec();
    let scene = Scene::new(world, 80, 24);
    let mut screen = screen(&scene);
    let lines = scene.drawn(&screen);
    assert_has(&lines, &["Queue", "2 wait"]);
    assert_has(&lines, &["1 표준어"]);
    assert_has(&lines, &["demo (queued 2)"]);
    assert_eq!(
        after(&scene, &mut screen, &[Action::ClearQueue]),
        [Command::ClearQueue]
    );
}

#[test]
fn nothing_to_show_says_what_would_be_there() {
    let mut scene = Scene::new(World::default(), 80, 24);
    let mut screen = Experiments::default();
    assert_has(&scene.drawn(&screen), &["is being read"]);
    scene.world.index = Some(crate::tui::data::index::Index {
        experiments_dir: PathBuf::from("experiments"),
        ..Default::default()
    });
    screen.refresh(&scene.context());
    let lines = scene.drawn(&screen);
    assert_has(&lines, &["No .toml file in experiments."]);
    assert_has(&lines, &["No run yet", "with s"]);
    assert!(error(&after(&scene, &mut screen, &[Action::Start])).contains("no experiment"));
}

#[test]
fn any_size_and_any_characters_can_be_drawn() {
    let hostile = file("\u{1b}[31m나쁜\u{1b}[0m 이름", VALID);
    let mut world = world();
    world
        .index
        .as_mut()
        .unwrap()
        .experiments
        .push(Arc::new(hostile));
    world.queue.push(PathBuf::from("experiments/demo.toml"));
    for (width, height) in [(0, 3), (1, 4), (7, 9), (80, 24), (300, 100)] {
        let mut scene = Scene::new(std::mem::take(&mut world), width.max(1), height.max(4));
        scene.body.width = width;
        for is_ascii in [false, true] {
            scene.settings.look.glyphs = crate::tui::theme::Glyphs::new(is_ascii);
            let mut screen = screen(&scene);
            let drawn = scene.drawn(&screen).join("\n");
            assert!(!drawn.contains('\u{1b}'));
            assert!(!is_ascii || !drawn.contains(['×', '…', '│']));
            screen.act(Action::PageDown, &scene.context());
        }
        world = scene.world;
    }
    assert!(NOW.starts_with("2026"));
}
