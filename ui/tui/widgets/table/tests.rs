use proptest::prelude::*;

use super::*;
use crate::tui::keymap::Action;
use crate::tui::widgets::list::{Marks, Search, window};
use crate::tui::widgets::testing::{ascii, draw_anywhere, drawn, plain};

impl Item for usize {
    type Id = Self;

    fn id(&self) -> Option<&Self> {
        Some(self)
    }
}

/// A line on which the cursor cannot stand among those on which it can.
#[derive(Debug, PartialEq)]
struct Line(Option<&'static str>);

impl Item for Line {
    type Id = &'static str;

    fn id(&self) -> Option<&&'static str> {
        self.0.as_ref()
    }
}

fn columns() -> Vec<Column<'static, usize>> {
    vec![
        Column::number("rank", 4, |index: &usize, _| (index + 1).to_string()).priority(1),
        Column::text("파일", 20, |index, _| {
            format!("실험{index}\u{1b}[31m_결과.json")
        })
        .minimum(10)
        .growing(),
        Column::number("mean", 6, |index, _| {
            format!("{:.4}", 0.5 - *index as f64 / 100.0)
        })
        .sorts("mean", Order::Descending, |index| {
            Key::number((*index != 1).then_some(-(*index as f64)))
        }),
        Column::text("state", 8, |_, _| "완료").priority(2),
    ]
}

fn draw(table: &Table<usize>, len: usize, area: Rect, buf: &mut Buffer, look: &Look) {
    let (columns, items) = (columns(), (0..len).collect::<Vec<_>>());
    let sheet = Sheet {
        columns: &columns,
        items: &items,
        marks: &[1],
        sort: Some(Sort::by(2)),
        style: &|_, _| Style::new(),
        empty: "No file yet.",
    };
    table.draw(&sheet, area, buf, look);
}

fn at(cursor: usize) -> Table<usize> {
    let mut table = Table::default();
    table.list.select_id(cursor);
    table
}

#[test]
fn korean_and_numbers_keep_their_columns() {
    let lines = drawn(50, 5, |area, buf| draw(&at(1), 3, area, buf, &plain()));
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
    let lines = drawn(24, 4, |area, buf| draw(&at(0), 9, area, buf, &ascii()));
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
    let lines = drawn(30, 3, |area, buf| draw(&at(5), 0, area, buf, &plain()));
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
    let table = at(50);
    let mut buf = Buffer::empty(Rect::new(0, 0, 60, 10));
    draw(&table, 100, Rect::new(2, 1, 50, 6), &mut buf, &plain());
    let row_at = |x, y| table.list.index_at(Position::new(x, y));
    assert_eq!(row_at(5, 2), Some(48));
    assert_eq!(row_at(5, 6), Some(52));
    assert_eq!(row_at(5, 1), None);
    assert_eq!(row_at(1, 2), None);
    let head_at = |x, y| table.column_at(Position::new(x, y));
    assert_eq!(head_at(5, 1), Some(0));
    assert_eq!(head_at(11, 1), Some(1));
    assert_eq!(head_at(3, 1), None);
    assert_eq!(head_at(11, 2), None);
}

#[test]
fn the_cursor_stays_on_its_item_and_passes_over_headings() {
    let lines = |ids: &[Option<&'static str>]| ids.iter().copied().map(Line).collect::<Vec<_>>();
    let before = lines(&[None, Some("a"), None, Some("b"), Some("c")]);
    let mut list = List::default();
    list.follow(&before);
    assert_eq!(list.cursor(&before), 1);
    assert!(list.act(Action::Down, &before));
    assert_eq!(list.selected(&before), Some(&Line(Some("b"))));
    let after = lines(&[None, Some("c"), Some("x"), Some("b")]);
    list.follow(&after);
    assert_eq!(list.cursor(&after), 3);
    // It disappeared: the one in its place.
    let fewer = lines(&[None, Some("c"), None]);
    list.follow(&fewer);
    assert_eq!(list.selected(&fewer), Some(&Line(Some("c"))));
    list.follow(&lines(&[None]));
    assert_eq!(list.selected(&lines(&[None])), None);
    list.select(0, &before);
    list.act(Action::Bottom, &before);
    list.act(Action::Up, &before);
    list.act(Action::PageUp, &before);
    assert_eq!(list.selected(&before), Some(&Line(Some("a"))));
    assert!(!list.act(Action::Open, &before));
}

#[test]
fn a_search_goes_on_at_the_other_end() {
    let items = [0, 1, 2, 3];
    let mut list = List::default();
    let is_odd = |item: &usize| item % 2 == 1;
    assert_eq!(list.search(true, &items, is_odd), Search::Further);
    assert_eq!(list.search(true, &items, is_odd), Search::Further);
    assert_eq!(list.search(true, &items, is_odd), Search::Wrapped);
    assert_eq!(list.cursor(&items), 1);
    assert_eq!(list.search(false, &items, is_odd), Search::Wrapped);
    assert_eq!(list.cursor(&items), 3);
    assert_eq!(
        list.search(false, &items, |item| *item > 9),
        Search::Nothing
    );
}

#[test]
fn rows_without_a_value_come_last_in_either_direction() {
    let columns = columns();
    let order = |sort: Sort| {
        let mut items = vec![0, 1, 2];
        items.sort_by(|left, right| sort.compare(&columns, left, right));
        items
    };
    let mut sort = Sort::default();
    sort.next(&columns);
    assert_eq!(sort, Sort::by(2));
    assert_eq!(order(sort), [0, 2, 1]);
    sort.choose(2, &columns);
    assert_eq!(order(sort), [2, 0, 1]);
    sort.choose(0, &columns);
    assert_eq!(sort.column, 2, "this column does not sort");
    let name = |text: &str| Key::Name(text.to_owned());
    assert!(
        name("epoch2")
            .compare(&name("epoch10"), Order::Ascending)
            .is_lt()
    );
}

#[test]
fn marks_keep_their_order() {
    let mut marks = Marks::default();
    for id in [3, 1, 2, 1] {
        marks.toggle(&id);
    }
    assert_eq!(marks.all(), [3, 2]);
    marks.retain(|id| *id != 3);
    assert_eq!(marks.all(), [2]);
}

#[test]
fn columns_are_exported_under_their_headings() {
    let columns = [
        Column::text("item", 4, |item: &usize, _| item.to_string())
            .exports(&["id", "square"], |item| {
                vec![item.to_string(), (item * item).to_string()]
            }),
        Column::text("on the screen only", 4, |_, _| ""),
        Column::text("name", 4, |_, _| "").exports(&["name", "rest"], |_| vec!["a, b".to_owned()]),
    ];
    let csv = "id,square,name,rest\n7,49,\"a, b\",\n";
    assert_eq!(to_csv(&columns, &[7]), csv);
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
        draw_anywhere(Rect::new(x, y, width, height), |area, buf| {
            draw(&at(cursor), len, area, buf, &plain());
        });
    }

    #[test]
    fn columns_never_exceed_the_width(
        sizes in prop::collection::vec((0_u16..60, 0_u8..4, any::<bool>()), 0..9),
        width in 0_u16..200, gap in 0_u16..4,
    ) {
        let columns: Vec<Column<'_, usize>> = sizes
            .into_iter()
            .map(|(ideal, priority, grows)| Column {
                grows,
                ..Column::text("질문", ideal, |_, _| "").priority(priority)
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
