//! The screen as a picture: SVG that keeps columns, colours and Korean text.

use std::fmt::Write as _;

use ratatui::buffer::Buffer;
use ratatui::style::{Color, Modifier};

use super::text::width;
use super::theme::hex;

/// A cell in pixels, for a monospaced font of 14 pixels.
const CELL: (f64, f64) = (8.4, 18.0);

/// The colours of text and ground where the terminal's own are meant.
const TEXT: &str = "#d8dee9";
const GROUND: &str = "#14181f";

/// Draws what is on the screen.
pub fn svg(buffer: &Buffer) -> String {
    let (across, down) = (f64::from(buffer.area.width), f64::from(buffer.area.height));
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {:.1} {:.1}\" font-size=\"14\" \
         font-family=\"'D2Coding','Noto Sans Mono CJK KR','DejaVu Sans Mono',monospace\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"{GROUND}\"/>\n",
        across * CELL.0,
        down * CELL.1
    );
    for y in buffer.area.top()..buffer.area.bottom() {
        for run in runs(buffer, y) {
            run.draw(&mut svg, f64::from(y - buffer.area.y));
        }
    }
    svg.push_str("</svg>\n");
    svg
}

/// Neighbouring cells of one look.
struct Run {
    column: usize,
    cells: usize,
    text: String,
    look: CellLook,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct CellLook {
    text: Option<String>,
    ground: Option<String>,
    modifier: Modifier,
}

impl CellLook {
    fn of(foreground: Color, background: Color, modifier: Modifier) -> Self {
        let (text, ground) = (hex(foreground), hex(background));
        if !modifier.contains(Modifier::REVERSED) {
            Self {
                text,
                ground,
                modifier,
            }
        } else {
            Self {
                text: Some(ground.unwrap_or_else(|| GROUND.to_owned())),
                ground: Some(text.unwrap_or_else(|| TEXT.to_owned())),
                modifier,
            }
        }
    }
}

fn runs(buffer: &Buffer, y: u16) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    let mut covered = 0;
    for (column, x) in (buffer.area.left()..buffer.area.right()).enumerate() {
        // The second cell of a wide character is empty.
        if covered > 0 {
            covered -= 1;
            continue;
        }
        let cell = &buffer[(x, y)];
        let cells = width(cell.symbol()).max(1);
        covered = cells - 1;
        let look = CellLook::of(cell.fg, cell.bg, cell.modifier);
        match runs.last_mut() {
            Some(run) if run.look == look => {
                run.cells += cells;
                run.text.push_str(cell.symbol());
            }
            _ => runs.push(Run {
                column,
                cells,
                text: cell.symbol().to_owned(),
                look,
            }),
        }
    }
    runs
}

impl Run {
    fn draw(&self, svg: &mut String, line: f64) {
        let (left, top) = (self.column as f64 * CELL.0, line * CELL.1);
        let length = self.cells as f64 * CELL.0;
        if let Some(ground) = &self.look.ground {
            // Writing to a string does not fail.
            let _ = writeln!(
                svg,
                "<rect x=\"{left:.1}\" y=\"{top:.1}\" width=\"{length:.1}\" height=\"{:.1}\" fill=\"{ground}\"/>",
                CELL.1
            );
        }
        if self.text.trim().is_empty() {
            return;
        }
        let modifier = self.look.modifier;
        let mut attributes = String::new();
        for (part, attribute) in [
            (Modifier::BOLD, " font-weight=\"bold\""),
            (Modifier::DIM, " opacity=\"0.65\""),
            (Modifier::ITALIC, " font-style=\"italic\""),
            (Modifier::UNDERLINED, " text-decoration=\"underline\""),
            (Modifier::CROSSED_OUT, " text-decoration=\"line-through\""),
        ] {
            if modifier.contains(part) {
                attributes.push_str(attribute);
            }
        }
        // `textLength` keeps the columns whatever font is there.
        let _ = writeln!(
            svg,
            "<text x=\"{left:.1}\" y=\"{:.1}\" textLength=\"{length:.1}\" lengthAdjust=\"spacingAndGlyphs\" \
             xml:space=\"preserve\" fill=\"{}\"{attributes}>{}</text>",
            top + 0.75 * CELL.1,
            self.look.text.as_deref().unwrap_or(TEXT),
            escaped(&self.text)
        );
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use ratatui::layout::Rect;
    use ratatui::style::Style;

    use super::*;

    #[test]
    fn columns_colours_and_korean_are_kept() {
        let mut buffer = Buffer::empty(Rect::new(0, 0, 12, 2));
        buffer.set_string(0, 0, "한글<a>", Style::new().fg(Color::Rgb(1, 2, 3)));
        buffer.set_string(8, 0, "b", Style::new().add_modifier(Modifier::REVERSED));
        let svg = svg(&buffer);
        assert!(
            svg.contains("fill=\"#010203\">한글&lt;a&gt;</text>"),
            "{svg}"
        );
        assert!(svg.contains("textLength=\"58.8\""), "seven cells: {svg}");
        assert!(
            svg.contains(&format!("fill=\"{TEXT}\"/>")),
            "reversed ground"
        );
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
    }
}
