//! Many charts in one area.

use ratatui::layout::Rect;

/// Where the charts of one page lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grid {
    /// Areas of the charts of this page, by row.
    pub areas: Vec<Rect>,
    /// Number of the first of them among all charts.
    pub first: usize,
    /// The page, from 0; the last one where a later one was wanted.
    pub page: usize,
    /// Pages there are, at least one.
    pub pages: usize,
}

/// Cells of a chart that look right are about this many times as wide as high.
const WIDE: f64 = 4.0;

/// Spreads `count` charts of at least `minimum` (cells across, rows) over an area. Where
/// they do not all fit there are pages, all of the same grid. One chart is there in any
/// area.
pub fn grid(area: Rect, count: usize, minimum: (u16, u16), page: usize) -> Grid {
    let most_across = usize::from((area.width / minimum.0.max(1)).max(1));
    let most_down = usize::from((area.height / minimum.1.max(1)).max(1));
    let on_page = (most_across * most_down).min(count);
    let (across, down) = shape(area, on_page, most_across, most_down);
    let pages = count.div_ceil((across * down).max(1)).max(1);
    let page = page.min(pages - 1);
    let first = page * across * down;
    let here = count.saturating_sub(first).min(across * down);
    let areas = (0..here)
        .map(|index| {
            let (left, width) = part(area.width, across, index % across);
            let (top, height) = part(area.height, down, index / across);
            Rect::new(area.x + left, area.y + top, width, height)
        })
        .collect();
    Grid {
        areas,
        first,
        page,
        pages,
    }
}

/// Charts across and down: of all that hold `count` the ones with the fewest holes, and
/// of those the ones of the best shape.
fn shape(area: Rect, count: usize, most_across: usize, most_down: usize) -> (usize, usize) {
    let unlike = |across: usize, down: usize| {
        let width = f64::from(area.width.max(1)) / across as f64;
        let height = f64::from(area.height.max(1)) / down as f64;
        let holes = (across * down).saturating_sub(count) as f64;
        holes / 2.0 + (width / height / WIDE).ln().abs()
    };
    (1..=most_across)
        .map(|across| (across, count.div_ceil(across).max(1)))
        .filter(|(_, down)| *down <= most_down)
        .min_by(|one, other| unlike(one.0, one.1).total_cmp(&unlike(other.0, other.1)))
        .unwrap_or((most_across, most_down))
}

/// Start and length of the `index`th of `count` parts of a length.
fn part(length: u16, count: usize, index: usize) -> (u16, u16) {
    let edge = |index: usize| super::super::cells(usize::from(length) * index / count.max(1));
    (edge(index), edge(index + 1) - edge(index))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn charts_share_the_area() {
        let area = Rect::new(0, 2, 120, 30);
        let grid = grid(area, 6, (30, 8), 0);
        assert_eq!((grid.areas.len(), grid.pages, grid.first), (6, 1, 0));
        assert_eq!(grid.areas[0], Rect::new(0, 2, 60, 10));
        assert_eq!(grid.areas[5], Rect::new(60, 22, 60, 10));
    }

    #[test]
    fn what_does_not_fit_is_on_further_pages() {
        let area = Rect::new(0, 0, 80, 20);
        let page = |page| grid(area, 11, (40, 10), page);
        assert_eq!((page(0).areas.len(), page(0).pages), (4, 3));
        assert_eq!((page(2).first, page(2).areas.len()), (8, 3));
        // The grid stays the same on a page with fewer charts.
        assert_eq!(page(2).areas[0], page(0).areas[0]);
        assert_eq!(page(9), page(2));
    }

    proptest! {
        #[test]
        fn areas_lie_inside_and_apart(width in 0_u16..200, height in 0_u16..60, count in 0_usize..40,
                                      across in 0_u16..80, down in 0_u16..20, page in 0_usize..9) {
            let area = Rect::new(3, 4, width, height);
            let grid = grid(area, count, (across, down), page);
            prop_assert!(grid.page < grid.pages);
            prop_assert_eq!(grid.areas.is_empty(), count == 0);
            for (index, one) in grid.areas.iter().enumerate() {
                prop_assert_eq!(area.union(*one), area);
                for other in &grid.areas[..index] {
                    prop_assert!(one.intersection(*other).is_empty());
                }
            }
        }
    }
}
