use proptest::prelude::*;

use super::*;
use crate::tui::widgets::testing::{ascii, draw_anywhere, drawn, plain};

fn columns() -> Vec<Column> {
    vec![
        Column::number("rank", 4).priority(1),
        Column::text("파일", 20).minimum(10).growing(),
        Column::number("mean", 6),
        Column::text("state", 8).priority(2),
    ]
}

fn row(index: usize) -> Row {
    Row {
        is_marked: index == 1,
        ..Row::new(vec![
            (index + 1).to_string().into(),
            format!("실험{index}\u{1b}[31m_결과.json").into(),
            format!("{:.4}", 0.5 - index as f64 / 100.0).into(),
            "완료".into(),
        ])
    }
}

fn table<'a>(columns: &'a [Column], len: usize, cursor: usize) -> Table<'a> {
    Table {
        columns,
        len,
        cursor,
        row: &row,
        sort: Some((2, Order::Descending)),
        empty: "No file yet.",
    }
}

#[test]
fn korean_and_numbers_keep_their_columns() {
    let lines = drawn(50, 5, |area, buf| {
        table(&columns(), 3, 1).render(area, buf, &plain());
    });
    assert_eq!(
        lines,
        [
            "   rank  파일                    mean▼  state",
            "      1  실험0_결과.json        0.5000  완료",
            "▸●    2  실험1_결과.json        0.4900  완료",
            "      3  실험2_결과.json        0.4800  완료",
            "",
        ]
    );
}

#[test]
fn narrow_tables_keep_what_matters() {
    let lines = drawn(24, 4, |area, buf| {
        table(&columns(), 9, 0).render(area, buf, &ascii());
    });
    assert_eq!(
        lines,
        [
            "   파일          meanv",
            ">  실험0_결과~  0.5000 #",
            " # 실험1_결과~  0.4900 |",
            "   실험2_결과~  0.4800 |",
        ]
    );
}

#[test]
fn an_empty_table_says_so() {
    let lines = drawn(30, 3, |area, buf| {
        table(&columns(), 0, 5).render(area, buf, &plain());
    });
    assert_eq!(lines[1], "   No file yet.");
}

#[test]
fn the_window_follows_the_cursor() {
    assert_eq!(window(0, 10, 4), 0..4);
    assert_eq!(window(5, 10, 4), 3..7);
    assert_eq!(window(9, 10, 4), 6..10);
    assert_eq!(window(99, 3, 4), 0..3);
    assert_eq!(window(0, 0, 4), 0..0);
    assert_eq!(window(5, 10, 0), 5..5);
}

#[test]
fn clicks_find_rows_and_heads() {
    let columns = columns();
    let table = table(&columns, 100, 50);
    let area = Rect::new(2, 1, 50, 6);
    assert_eq!(table.row_at(area, Position::new(5, 2)), Some(48));
    assert_eq!(table.row_at(area, Position::new(5, 6)), Some(52));
    assert_eq!(table.row_at(area, Position::new(5, 1)), None);
    assert_eq!(table.row_at(area, Position::new(1, 2)), None);
    assert_eq!(table.head_at(area, Position::new(5, 1)), Some(0));
    assert_eq!(table.head_at(area, Position::new(11, 1)), Some(1));
    assert_eq!(table.head_at(area, Position::new(3, 1)), None);
    assert_eq!(table.head_at(area, Position::new(11, 2)), None);
}

#[test]
fn columns_fill_the_width_exactly_where_one_grows() {
    for width in 40..120 {
        let shown = fitting(&columns(), width, GAP);
        let used: u16 = shown.iter().map(|(_, cells)| cells).sum();
        let gaps = GAP * u16::try_from(shown.len() - 1).unwrap();
        assert_eq!(used + gaps, width);
    }
}

proptest! {
    #[test]
    fn any_area(x in 0_u16..40, y in 0_u16..14, width in 0_u16..40, height in 0_u16..12,
                len in 0_usize..40, cursor in 0_usize..50) {
        let columns = columns();
        draw_anywhere(Rect::new(x, y, width, height), |area, buf| {
            table(&columns, len, cursor).render(area, buf, &plain());
        });
    }

    #[test]
    fn columns_never_exceed_the_width(
        sizes in prop::collection::vec((0_u16..60, 0_u8..4, any::<bool>()), 0..9),
        width in 0_u16..200, gap in 0_u16..4,
    ) {
        let columns: Vec<Column> = sizes
            .into_iter()
            .map(|(ideal, priority, grows)| Column {
                grows,
                ..Column::text("질문", ideal).priority(priority)
            })
            .collect();
        let shown = fitting(&columns, width, gap);
        let used: u32 = shown.iter().map(|(_, cells)| u32::from(*cells)).sum();
        let gaps = u32::from(gap) * shown.len().saturating_sub(1) as u32;
        prop_assert!(used + gaps <= u32::from(width));
    }

    #[test]
    fn the_cursor_is_always_on_the_screen(cursor in 0_usize..500, len in 1_usize..400, height in 1_usize..60) {
        let shown = window(cursor, len, height);
        prop_assert!(shown.contains(&cursor.min(len - 1)));
        prop_assert_eq!(shown.len(), len.min(height));
    }
}
