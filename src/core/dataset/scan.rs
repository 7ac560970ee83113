//! Cuts a data file into its items by matching brackets and quotes. The content of an item is left
//! to serde_json.

/// Why the scan for items stopped.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ScanFault {
    EndsEarly {
        offset: usize,
    },
    Syntax {
        offset: usize,
        problem: String,
        hint: &'static str,
    },
}

impl ScanFault {
    pub fn offset(&self) -> usize {
        match self {
            Self::EndsEarly { offset } | Self::Syntax { offset, .. } => *offset,
        }
    }
}

pub(super) type Span = (usize, usize);

/// The byte ranges of a file's items.
pub(super) fn spans(text: &str) -> Result<Vec<Span>, ScanFault> {
    let start = skip_space(text, 0);
    match text.as_bytes().get(start) {
        None => Err(ScanFault::EndsEarly { offset: text.len() }),
        Some(b'[') => {
            let (spans, end) = array(text, start)?;
            nothing_after(text, end)?;
            Ok(spans)
        }
        Some(b'{') => objects(text, start),
        Some(_) => Err(ScanFault::Syntax {
            offset: start,
            problem: format!(
                "a data file starts with [ or {{, not {:?}",
                first_char(text, start)
            ),
            hint: "write a JSON array, {\"data\": […]} or JSON lines",
        }),
    }
}

/// JSON lines, or one object with the array under `data`.
fn objects(text: &str, start: usize) -> Result<Vec<Span>, ScanFault> {
    let line_end = text[start..]
        .find('\n')
        .map_or(text.len(), |length| start + length);
    let first = value(&text[..line_end], start);
    let is_lines = matches!(first, Ok(end) if text[end..line_end].trim().is_empty())
        && skip_space(text, line_end) < text.len();
    if is_lines {
        return json_lines(text);
    }
    let end = value(text, start)?;
    nothing_after(text, end)?;
    match data_array(text, start)? {
        Some(data) => Ok(array(text, data)?.0),
        None => Ok(vec![(start, end)]),
    }
}

fn json_lines(text: &str) -> Result<Vec<Span>, ScanFault> {
    let mut spans = Vec::new();
    let mut line_start = 0;
    for line in text.split_inclusive('\n') {
        let line_end = line_start + line.len();
        let start = skip_space(&text[..line_end], line_start);
        if start < line_end {
            let is_last = skip_space(text, line_end) == text.len() && !line.ends_with('\n');
            let end = value(&text[..line_end], start).map_err(|fault| match fault {
                ScanFault::EndsEarly { .. } if !is_last => ScanFault::Syntax {
                    offset: start,
                    problem: "the line is not one whole JSON object".to_owned(),
                    hint: "write each item of a JSON lines file on its own line",
                },
                other => other,
            })?;
            let after = skip_space(&text[..line_end], end);
            if after < line_end {
                return Err(ScanFault::Syntax {
                    offset: after,
                    problem: "text follows the item on its line".to_owned(),
                    hint: "write each item of a JSON lines file on its own line",
                });
            }
            spans.push((start, end));
        }
        line_start = line_end;
    }
    Ok(spans)
}

/// The items of the array that opens at `open`, and the offset after its end.
fn array(text: &str, open: usize) -> Result<(Vec<Span>, usize), ScanFault> {
    let mut spans = Vec::new();
    let mut offset = skip_space(text, open + 1);
    if text.as_bytes().get(offset) == Some(&b']') {
        return Ok((spans, offset + 1));
    }
    loop {
        let end = value(text, offset)?;
        spans.push((offset, end));
        offset = skip_space(text, end);
        match text.as_bytes().get(offset) {
            None => return Err(ScanFault::EndsEarly { offset }),
            Some(b']') => return Ok((spans, offset + 1)),
            Some(b',') => offset = skip_space(text, offset + 1),
            Some(_) => {
                return Err(ScanFault::Syntax {
                    offset,
                    problem: format!("expected , or ], found {:?}", first_char(text, offset)),
                    hint: "put a comma between items",
                });
            }
        }
    }
}

/// The offset at which the array under the top-level key `data` opens.
fn data_array(text: &str, open: usize) -> Result<Option<usize>, ScanFault> {
    let mut offset = skip_space(text, open + 1);
    while text.as_bytes().get(offset) == Some(&b'"') {
        let key_end = string(text, offset)?;
        let is_data = &text[offset..key_end] == "\"data\"";
        offset = skip_space(text, key_end);
        if text.as_bytes().get(offset) != Some(&b':') {
            break;
        }
        offset = skip_space(text, offset + 1);
        if is_data && text.as_bytes().get(offset) == Some(&b'[') {
            return Ok(Some(offset));
        }
        offset = skip_space(text, value(text, offset)?);
        if text.as_bytes().get(offset) != Some(&b',') {
            break;
        }
        offset = skip_space(text, offset + 1);
    }
    Ok(None)
}

/// The offset after the JSON value that starts at `start`: brackets and quotes matched,
/// the rest left to serde_json.
fn value(text: &str, start: usize) -> Result<usize, ScanFault> {
    let bytes = text.as_bytes();
    let mut open = Vec::new();
    let mut offset = start;
    loop {
        match bytes.get(offset) {
            None => return Err(ScanFault::EndsEarly { offset }),
            Some(b'"') => offset = string(text, offset)?,
            Some(bracket @ (b'[' | b'{')) => {
                open.push(*bracket);
                offset += 1;
            }
            Some(bracket @ (b']' | b'}')) => {
                let expected = if *bracket == b']' { b'[' } else { b'{' };
                if open.pop() != Some(expected) {
                    return Err(ScanFault::Syntax {
                        offset,
                        problem: format!("{} does not match an open bracket", char::from(*bracket)),
                        hint: "look for a missing bracket or an extra comma before it",
                    });
                }
                offset += 1;
            }
            Some(_) if open.is_empty() => {
                let scalar = text[offset..]
                    .find(|c: char| c.is_ascii_whitespace() || ",]}[{\"".contains(c))
                    .unwrap_or(text.len() - offset);
                if offset + scalar == text.len() {
                    // `tru` and `12` may be incomplete.
                    return Err(ScanFault::EndsEarly { offset: text.len() });
                }
                if scalar == 0 {
                    return Err(ScanFault::Syntax {
                        offset,
                        problem: format!("expected an item, found {:?}", first_char(text, offset)),
                        hint: "remove the extra comma",
                    });
                }
                offset += scalar;
            }
            Some(_) => {
                offset += 1;
                continue;
            }
        }
        if open.is_empty() {
            return Ok(offset);
        }
    }
}

/// The offset after the string that opens at `open`.
fn string(text: &str, open: usize) -> Result<usize, ScanFault> {
    let bytes = text.as_bytes();
    let mut offset = open + 1;
    loop {
        match bytes.get(offset) {
            None => return Err(ScanFault::EndsEarly { offset: text.len() }),
            Some(b'"') => return Ok(offset + 1),
            Some(b'\\') => offset += 2,
            Some(b'\n') => {
                return Err(ScanFault::Syntax {
                    offset,
                    problem: "a string is not closed on its line".to_owned(),
                    hint: "close it with \", or write the line break inside it as \\n",
                });
            }
            Some(_) => offset += 1,
        }
    }
}

fn nothing_after(text: &str, end: usize) -> Result<(), ScanFault> {
    let offset = skip_space(text, end);
    if offset == text.len() {
        return Ok(());
    }
    Err(ScanFault::Syntax {
        offset,
        problem: format!("{:?} follows the end of the JSON", first_char(text, offset)),
        hint: "put all items into one array, or one item on each line",
    })
}

fn first_char(text: &str, offset: usize) -> char {
    text[offset..].chars().next().unwrap_or(' ')
}

fn skip_space(text: &str, start: usize) -> usize {
    let rest = text.get(start..).unwrap_or_default();
    let space = rest
        .find(|c: char| !matches!(c, ' ' | '\n' | '\r' | '\t'))
        .unwrap_or(rest.len());
    start + space
}
