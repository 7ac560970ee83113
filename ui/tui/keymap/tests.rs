use std::collections::HashSet;

use super::*;

#[test]
fn no_key_means_two_things_in_one_place() {
    let mut seen = HashSet::new();
    for binding in BINDINGS {
        for keys in binding.keys {
            assert!(
                seen.insert((format!("{:?}", binding.scope), *keys)),
                "{keys} is bound twice in {:?}",
                binding.scope
            );
        }
    }
}

#[test]
fn no_key_is_also_the_beginning_of_a_sequence() {
    for screen in Screen::ALL {
        for binding in bindings_of(screen) {
            for keys in binding.keys {
                if let Some((first, _)) = keys.split_once(' ') {
                    assert_eq!(lookup(screen, first), Lookup::Prefix, "{keys}");
                }
            }
        }
    }
}

#[test]
fn a_screen_may_bind_a_common_key_otherwise() {
    assert_eq!(lookup(Screen::Plan, "ctrl-z"), Lookup::Action(A::Undo));
    assert_eq!(lookup(Screen::Train, "ctrl-z"), Lookup::Action(A::Suspend));
    let suspend = |screen| bindings_of(screen).any(|binding| binding.action == A::Suspend);
    assert!(suspend(Screen::Train) && !suspend(Screen::Plan));
}

#[test]
fn sequences_wait_for_their_second_key() {
    assert_eq!(lookup(Screen::Train, "g"), Lookup::Prefix);
    assert_eq!(lookup(Screen::Train, "g g"), Lookup::Action(A::Top));
    assert_eq!(lookup(Screen::Train, "g x"), Lookup::Nothing);
}

/// The table as Markdown, for docs/keys.md.
fn to_markdown() -> String {
    let mut text = "# Keys\n\nMade from the table in `ui/tui/keymap.rs`; `?` shows the keys of a \
                    screen, `:` finds any of them by its name.\n\n"
        .to_owned();
    let scopes = std::iter::once(("Everywhere", Everywhere))
        .chain(Screen::ALL.map(|screen| (screen.title(), On(screen))));
    for (title, scope) in scopes {
        text.push_str(&format!(
            "### {title}\n\n| keys | what they do |\n|---|---|\n"
        ));
        for binding in BINDINGS.iter().filter(|binding| binding.scope == scope) {
            let keys: Vec<String> = binding
                .keys
                .iter()
                .map(|keys| format!("`{}`", keys.replace('|', "\\|")))
                .collect();
            text.push_str(&format!("| {} | {} |\n", keys.join(" "), binding.help));
        }
        text.push('\n');
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
    text
}

const DOCUMENTATION: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/keys.md");

#[test]
fn the_documentation_lists_every_key() {
    let written = std::fs::read_to_string(DOCUMENTATION).unwrap_or_default();
    assert_eq!(
        written,
        to_markdown(),
        "docs/keys.md is old: cargo test --release -p moim-ui --lib -- --ignored writes_docs_keys"
    );
}

#[test]
#[ignore = "writes docs/keys.md"]
fn writes_docs_keys() {
    std::fs::write(DOCUMENTATION, to_markdown()).unwrap();
}

#[test]
fn hangul_letters_stand_for_the_keys_they_lie_on() {
    let name = |letter| key_name(KeyEvent::new(KeyCode::Char(letter), KeyModifiers::NONE));
    assert_eq!(name('ㅓ').as_deref(), Some("j"));
    assert_eq!(name('ㅆ').as_deref(), Some("T"));
    assert_eq!(name('가').as_deref(), Some("가"));
    let control = KeyEvent::new(KeyCode::Char('u'), KeyModifiers::CONTROL);
    assert_eq!(key_name(control).as_deref(), Some("ctrl-u"));
}
