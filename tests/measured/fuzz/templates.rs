//! Chat templates come with a model from anywhere: they see no file, end, and fill no memory.

use moim::text::{ChatTemplate, Message, RenderOptions, Role, SpecialTokens};

use super::harness::run_case;
use crate::allocator::alone;

/// What one rendering may take, in bytes: minijinja repeats a text up to 100 MB, twice in memory while
/// it is written out.
const MEMORY: usize = 320 << 20;

/// Renders a conversation of one message, beside a file `secret.txt`.
fn render(source: &str) -> Result<String, String> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("secret.txt"), "SECRET").unwrap();
    let path = folder.path().join("chat_template.jinja");
    std::fs::write(&path, source).unwrap();
    let template = ChatTemplate::from_file(&path, SpecialTokens::default())
        .map_err(|error| format!("{error:#}"))?;
    let messages = [Message::new(Role::User, "말")];
    template
        .render(&messages, &RenderOptions::default())
        .map_err(|error| format!("{error:#}"))
}

#[test]
fn no_template_reaches_a_file_or_this_process() {
    for source in [
        "{% include 'secret.txt' %}",
        "{% include '/etc/passwd' %}",
        "{% include ['a', 'secret.txt'] %}",
        "{% extends 'secret.txt' %}",
        "{% import 'secret.txt' as s %}{{ s }}",
        "{% from 'secret.txt' import s %}{{ s }}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ self._TemplateReference__context }}",
        "{{ open('secret.txt') }}",
        "{{ messages.append(1) }}",
        "{{ range.__globals__ }}",
        "{{ lipsum() }}",
        "{{ cycler('a') }}",
    ] {
        match render(source) {
            Err(error) => assert!(error.contains("chat_template.jinja"), "{source}: {error}"),
            Ok(text) => assert_eq!(text, "", "{source}"),
        }
    }
    for harmless in [
        "{{ debug() }}",
        "{% include 'secret.txt' ignore missing %}",
        "{{ env }}{{ environ }}{{ config }}",
    ] {
        let told = render(harmless).unwrap_or_else(|error| error);
        assert!(
            !told.contains("SECRET") && !told.contains("PATH"),
            "{harmless}: {told}"
        );
    }
    // A template that includes itself comes to an end as well.
    let error = render("{% include 'chat_template' %}").unwrap_err();
    assert!(error.contains("chat_template.jinja"), "{error}");
    // Files are refused, not passed over.
    assert!(render("{% include 'secret.txt' %}").is_err());
    assert!(render("{% extends 'secret.txt' %}").is_err());
    assert!(render("{% import 'secret.txt' as s %}{{ s }}").is_err());
}

/// Each is refused with the file's name, or gives a text of bounded size, in bounded time and memory.
#[test]
fn no_template_runs_for_ever_or_fills_the_memory() {
    let _alone = alone();
    let huge = 10_usize.pow(9);
    let loops = [
        "{% for a in range(99999) %}{% for b in range(99999) %}{% set x = 1 %}{% endfor %}{% endfor %}".to_owned(),
        "{% for a in range(99999) %}{% for b in range(99999) %}aaaaaaaaaaaaaaaaaaaa{% endfor %}{% endfor %}".to_owned(),
        "{% macro m(x) %}{{ m(x) }}{{ m(x) }}{% endmacro %}{{ m(1) }}".to_owned(),
        "{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(60) }}".to_owned(),
        "{% for a in messages recursive %}{{ loop(messages) }}{% endfor %}".to_owned(),
        "{% set ns = namespace(n=0) %}{% for a in range(99999) %}{% for b in range(99999) %}{% set ns.n = ns.n + 1 %}{% endfor %}{% endfor %}".to_owned(),
        format!("{{% for a in range({huge}) %}}x{{% endfor %}}"),
        "{% for a in range(0, 9223372036854775807, 1) %}x{% endfor %}".to_owned(),
        "{{ range(9223372036854775807, -9223372036854775807, -1)|length }}".to_owned(),
    ];
    let texts = [
        format!("{{{{ 'a' * {huge} }}}}"),
        format!("{{{{ {huge} * 'a' }}}}"),
        format!("{{{{ [1] * {huge} }}}}"),
        format!("{{{{ ([1] * {huge})|length }}}}"),
        "{{ 'a' * 99999999 }}".to_owned(),
        "{% for i in range(1000) %}{{ 'a' * 99999999 }}{% endfor %}".to_owned(),
        "{% set x %}{% for i in range(1000) %}{{ 'a' * 9999999 }}{% endfor %}{% endset %}{{ x|length }}".to_owned(),
        format!("{{{{ '%{huge}d' % 1 }}}}"),
        format!("{{{{ '%{huge}d'|format(1) }}}}"),
        format!("{{{{ '%.{huge}f'|format(1.5) }}}}"),
        format!("{{{{ '%*d'|format({huge}, 1) }}}}"),
        format!("{{{{ '{{:{huge}}}'.format(1) }}}}"),
        format!("{{{{ '{{:>{huge}}}'.format('a') }}}}"),
        format!("{{{{ '{{:.{huge}f}}'.format(1.5) }}}}"),
        format!("{{{{ 'a\nb\nc'|indent({huge}) }}}}"),
        format!("{{{{ 'a\nb\nc'|indent(width={huge}, first=true) }}}}"),
        format!("{{{{ [1]|batch({huge}, 'x') }}}}"),
        format!("{{{{ [1]|slice({huge})|list|length }}}}"),
        "{{ range(99999)|join('a' * 99999)|length }}".to_owned(),
        "{{ range(99999)|map('string')|join(range(99999)|join)|length }}".to_owned(),
        "{{ ('a' * 99999)|replace('', 'b' * 99999)|length }}".to_owned(),
        "{{ ('a' * 99999).replace('a', 'b' * 99999)|length }}".to_owned(),
        "{{ ('b' * 99999).join(range(99999)|map('string'))|length }}".to_owned(),
        format!("{{{{ {{'a': 1}}|tojson(indent={huge}) }}}}"),
        "{{ [[[[1]]]]|tojson(indent='a' * 9999999) }}".to_owned(),
        "{{ range(99999)|list|tojson(separators=['a' * 99999, 'b']) }}".to_owned(),
        "{{ 9 ** 9 ** 9 ** 9 }}".to_owned(),
        format!("{{{{ 1.5|round({huge}) }}}}"),
        "{{ ('a' * 9999999)|pprint|pprint|pprint|pprint|length }}".to_owned(),
        "{{ ('é' * 9999999)|urlencode|length }}".to_owned(),
        format!("{{{{ strftime_now('%{huge}Y') }}}}"),
        format!("{{{{ ['a'] | sum(start='b' * {huge}) }}}}"),
        "{{ 'a'.center(999999999) }}{{ 'a'.ljust(999999999) }}{{ 'a'.zfill(999999999) }}".to_owned(),
        "{{ ('a' * 9999999).split('')|length }}".to_owned(),
        "{{ (range(99999)|list + range(99999)|list)|sort|unique|list|length }}".to_owned(),
        format!("{}{{{{ 1 }}}}{}", "{% if 1 %}".repeat(50_000), "{% endif %}".repeat(50_000)),
        format!("{{{{ {}1{} }}}}", "(".repeat(100_000), ")".repeat(100_000)),
        format!("{{{{ {}1 }}}}", "-".repeat(100_000)),
        format!("{{{{ {}1 }}}}", "not ".repeat(100_000)),
        format!("{{{{ 1{} }}}}", "|string".repeat(100_000)),
        format!("{{{{ 1{} }}}}", " + 1".repeat(100_000)),
        format!("{{{{ a{} }}}}", ".a".repeat(100_000)),
        format!("{{{{ {}1{} }}}}", "[".repeat(100_000), "]".repeat(100_000)),
        format!("{{{{ 1{} }}}}", " if 1 else 1".repeat(50_000)),
        "{% set ns = namespace(x=[]) %}{% for i in range(99999) %}{% set ns.x = [ns.x] %}{% endfor %}{{ ns.x }}".to_owned(),
        "{% set ns = namespace(x=[]) %}{% for i in range(99999) %}{% set ns.x = ns.x + ns.x + [1] %}{% endfor %}{{ ns.x|length }}".to_owned(),
        "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x }}".to_owned(),
        "{% set ns = namespace(x='a') %}{% for i in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}{{ ns.x|length }}".to_owned(),
        "{% set ns = namespace(x='a') %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}{{ ns.x|length }}".to_owned(),
        "{% set ns = namespace(x='a') %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x]|join %}{% endfor %}{{ ns.x|length }}".to_owned(),
    ];
    let mut wrong = Vec::new();
    for source in loops.iter().chain(&texts) {
        let shown: String = source.chars().take(90).collect();
        let read = |source: &[u8]| render(&String::from_utf8_lossy(source)).map(|_| ());
        let start = std::time::Instant::now();
        let taken = run_case(
            &shown,
            source.as_bytes(),
            (2000, MEMORY),
            "chat_template.jinja",
            read,
        );
        println!(
            "{:6.2} s {:?} {shown}",
            start.elapsed().as_secs_f64(),
            taken
        );
        if let Err(problem) = taken {
            wrong.push(format!("{shown}: {problem}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
