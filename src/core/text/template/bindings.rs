//! Bounds the size of every value that a template binds to a name.
//!
//! The result of one expression is limited by the expression's own length. Unlimited growth needs a
//! name: `{% set x = x ~ x %}`, an argument of a macro that calls itself, a loop over `[x ~ x]`. So
//! after each tag that binds names, the names are bound again through the filter [`FILTER`], which
//! refuses a value that is too large or nested too deep and otherwise returns it. No line is added,
//! so errors keep their line numbers.

use minijinja::Error;

use super::bounds::check_tag;

/// The name of the filter.
pub(super) const FILTER: &str = "moim_bounded";

/// `source` with a `{% set name = name|moim_bounded %}` after the tag that binds each name.
///
/// # Errors
/// A tag with too many words: see [`check_tag`].
pub(super) fn measured(source: &str) -> Result<String, Error> {
    let mut out = String::with_capacity(source.len() * 2);
    let mut rest = source;
    while let Some(start) = rest.find("{") {
        let (before, tag) = rest.split_at(start);
        out.push_str(before);
        let length = match tag.as_bytes().get(1) {
            Some(b'#') => tag.find("#}").map_or(tag.len(), |end| end + 2),
            Some(b'{') => {
                let end = end_of_tag(tag, "}}");
                check_tag(&tag[..end])?;
                end
            }
            Some(b'%') => {
                let end = end_of_tag(tag, "%}");
                check_tag(&tag[..end])?;
                write_block(&tag[..end], &mut out);
                rest = &tag[end..];
                if first_word(inside(&tag[..end])) == "raw" {
                    rest = copied_until_endraw(rest, &mut out);
                }
                continue;
            }
            _ => 1,
        };
        out.push_str(&tag[..length]);
        rest = &tag[length..];
    }
    out.push_str(rest);
    Ok(out)
}

/// The end of a tag, its closing mark included. Strings in the tag can contain the mark too.
fn end_of_tag(tag: &str, closing: &str) -> usize {
    let bytes = tag.as_bytes();
    let mut at = 2;
    while at < bytes.len() {
        match bytes[at] {
            quote @ (b'"' | b'\'') => {
                at += 1;
                while at < bytes.len() && bytes[at] != quote {
                    at += 1 + usize::from(bytes[at] == b'\\');
                }
                at += 1;
            }
            _ if bytes[at..].starts_with(closing.as_bytes()) => return at + closing.len(),
            _ => at += 1,
        }
    }
    tag.len()
}

/// The text between `{%` and `%}`, without white-space marks.
fn inside(block: &str) -> &str {
    let inner = block.trim_start_matches("{%").trim_end_matches("%}");
    inner
        .trim_start_matches(['-', '+'])
        .trim_end_matches(['-', '+'])
        .trim()
}

fn first_word(text: &str) -> &str {
    let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_'));
    &text[..end.unwrap_or(text.len())]
}

fn copied_until_endraw<'source>(rest: &'source str, out: &mut String) -> &'source str {
    let mut from = 0;
    while let Some(start) = rest[from..].find("{%") {
        let tag = &rest[from + start..];
        let end = tag.find("%}").map_or(tag.len(), |end| end + 2);
        from += start + end;
        if first_word(inside(&tag[..end])) == "endraw" {
            break;
        }
    }
    let (raw, rest) = rest.split_at(if from == 0 { rest.len() } else { from });
    out.push_str(raw);
    rest
}

/// Writes a block, followed by the bounds of the names that it binds.
fn write_block(block: &str, out: &mut String) {
    let names = names_bound(inside(block));
    let Some(opening) = block.strip_suffix("%}").filter(|_| !names.is_empty()) else {
        out.push_str(block);
        return;
    };
    // The white-space mark moves to the last tag, so that the text after it is trimmed as before.
    let mark = opening
        .chars()
        .next_back()
        .filter(|mark| ['-', '+'].contains(mark));
    out.push_str(opening.strip_suffix(['-', '+']).unwrap_or(opening));
    out.push_str(" %}");
    for name in names {
        out.push_str(&format!("{{% set {name} = {name}|{FILTER} %}}"));
    }
    if let Some(mark) = mark {
        out.truncate(out.len() - 2);
        out.push(mark);
        out.push_str("%}");
    }
}

/// The names that a block binds.
fn names_bound(block: &str) -> Vec<&str> {
    let word = first_word(block);
    let rest = block[word.len()..].trim_start();
    match word {
        "for" => match rest.split_once(" in ") {
            Some((names, _)) => targets(names),
            None => Vec::new(),
        },
        "set" => assigned(rest).map_or_else(Vec::new, targets),
        "with" => parts(rest)
            .into_iter()
            .filter_map(assigned)
            .filter(|name| is_target(name))
            .collect(),
        "macro" | "call" => {
            let arguments = rest.find('(').filter(|open| word == "macro" || *open == 0);
            let Some(open) = arguments else {
                return Vec::new();
            };
            let arguments = parts(&rest[open + 1..]).into_iter();
            let names = arguments.map(|argument| assigned(argument).unwrap_or(argument.trim()));
            names.filter(|name| is_target(name)).collect()
        }
        _ => Vec::new(),
    }
}

/// The names of a list, in brackets or not.
fn targets(text: &str) -> Vec<&str> {
    let parts = text.split([',', '(', ')']).map(str::trim);
    parts.filter(|name| is_target(name)).collect()
}

/// `name` or `name.attribute`.
fn is_target(name: &str) -> bool {
    let is_name = |part: &str| {
        part.starts_with(|c: char| c.is_alphabetic() || c == '_') && first_word(part) == part
    };
    name.split('.').all(is_name)
}

/// Splits `text` at its commas, up to the bracket that closes it, except at commas inside brackets
/// and strings.
fn parts(text: &str) -> Vec<&str> {
    let bytes = text.as_bytes();
    let (mut parts, mut start, mut depth, mut at) = (Vec::new(), 0, 0_usize, 0);
    while at < bytes.len() {
        match bytes[at] {
            quote @ (b'"' | b'\'') => {
                at += 1;
                while at < bytes.len() && bytes[at] != quote {
                    at += 1 + usize::from(bytes[at] == b'\\');
                }
            }
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' if depth == 0 => break,
            b')' | b']' | b'}' => depth -= 1,
            b',' if depth == 0 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
        at += 1;
    }
    parts.push(&text[start..at.min(text.len())]);
    parts
}

/// The name before the `=` of an assignment; `None` for a comparison.
fn assigned(text: &str) -> Option<&str> {
    let (name, value) = text.split_once('=')?;
    let is_plain = !value.starts_with('=') && !name.contains(['"', '\'', '|', '!', '<', '>']);
    is_plain.then(|| name.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_binding_is_followed_by_its_bound() {
        let set = |names: &[&str]| -> String {
            names
                .iter()
                .map(|name| format!("{{% set {name} = {name}|moim_bounded %}}"))
                .collect()
        };
        for (source, names) in [
            ("{% set x = 1 %}", &["x"][..]),
            ("{% set x='a=b' %}", &["x"]),
            ("{% set a, b = 1, 2 %}", &["a", "b"]),
            ("{% set ns.x = ns.x ~ '%}' %}", &["ns.x"]),
            ("{% for k, v in d.items() if v == 1 %}", &["k", "v"]),
            ("{% for (k, v) in d recursive %}", &["k", "v"]),
            ("{% with a = {'b': [1, 2]}, c = d %}", &["a", "c"]),
            ("{% macro m(a, b='x,y', c=f(1, 2)) %}", &["a", "b", "c"]),
            ("{% call(user) list() %}", &["user"]),
            ("{% call list() %}", &[]),
            ("{% set x %}", &[]),
            ("{% set x | upper %}", &[]),
            ("{% if x == 1 %}", &[]),
            ("{% with %}", &[]),
            ("{{ '{% set x = 1 %}' }}", &[]),
            ("{# {% set x = 1 %} #}", &[]),
            ("{% raw %}{% set x = 1 %}{% endraw %}", &[]),
            ("{ % { a", &[]),
        ] {
            let written = match names {
                [] => source.to_owned(),
                _ => format!("{} {}", source.replace(" %}", " "), "%}") + &set(names),
            };
            let plain = |text: &str| text.split_whitespace().collect::<String>();
            assert_eq!(
                plain(&measured(source).unwrap()),
                plain(&written),
                "{source}"
            );
        }
        assert_eq!(
            measured("{%- for a in b -%}\n x").unwrap(),
            "{%- for a in b  %}{% set a = a|moim_bounded -%}\n x"
        );
    }
}
