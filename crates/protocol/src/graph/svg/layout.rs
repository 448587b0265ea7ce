//! Where boxes stand and how wires run between them, in columns from left to right.
//!
//! Pure arithmetic that knows no text. A wire that passes a column has a place of its own there, which
//! all wires share that begin at the same box: so no wire runs behind a box, and there are never more
//! places than boxes times columns.

use std::collections::HashMap;

/// Between the boxes of a column.
const ROW_GAP: f64 = 22.0;
/// What wires have to bend, beside the room for what is written at them.
const BEND: f64 = 44.0;
/// Between the ends of wires at a box.
const PORT_GAP: f64 = 17.0;
/// The height of a wire that passes a column.
const PASSING: f64 = 12.0;

/// A box.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Node {
    /// Its column.
    pub(super) column: usize,
    /// Its width.
    pub(super) width: f64,
    /// The height that it needs; wires may give it more.
    pub(super) height: f64,
}

/// A wire to a box in a later column.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Edge {
    /// Where it begins.
    pub(super) from: usize,
    /// Where it ends.
    pub(super) to: usize,
    /// The room for what is written at its end.
    pub(super) label: f64,
}

/// A point.
pub(super) type Point = (f64, f64);

/// Where everything is.
#[derive(Debug, PartialEq)]
pub(super) struct Layout {
    /// The upper left corners of the boxes.
    pub(super) corners: Vec<Point>,
    /// The widths and heights of the boxes; those of a column are of one width.
    pub(super) sizes: Vec<Point>,
    /// For each wire: where its last bend begins, and where it ends.
    pub(super) wires: Vec<(Point, Point)>,
    /// Wires that pass a column: where the bend begins, where it ends, and how far it then goes on.
    pub(super) passing: Vec<(Point, Point, f64)>,
    /// The size of the whole.
    pub(super) size: Point,
}

/// A box, or a wire that passes.
#[derive(Debug, Clone)]
struct Item {
    column: usize,
    width: f64,
    height: f64,
    /// What it is behind, in the column before.
    behind: Vec<usize>,
    x: f64,
    /// Of its centre.
    y: f64,
}

/// Places boxes and wires.
pub(super) fn place(nodes: &[Node], edges: &[Edge]) -> Layout {
    let mut items: Vec<Item> = nodes.iter().map(item).collect();
    let before_last = pass(&mut items, edges);
    let mut ends: Vec<Vec<usize>> = vec![Vec::new(); nodes.len()];
    for (idx, edge) in edges.iter().enumerate() {
        ends[edge.to].push(idx);
        items[edge.to].behind.push(before_last[idx]);
    }
    for (item, ends) in items.iter_mut().zip(&ends) {
        item.height = item.height.max(ends.len() as f64 * PORT_GAP + 6.0);
    }
    let columns = columns(&items);
    let size = set(&mut items, &columns, edges);
    let mut wires = vec![((0.0, 0.0), (0.0, 0.0)); edges.len()];
    for (node, ends) in ends.iter_mut().enumerate() {
        ends.sort_by(|&a, &b| items[before_last[a]].y.total_cmp(&items[before_last[b]].y));
        let first = items[node].y - (ends.len() as f64 - 1.0) / 2.0 * PORT_GAP;
        for (port, &edge) in ends.iter().enumerate() {
            wires[edge] = (exit(&items[before_last[edge]]), (items[node].x, first + port as f64 * PORT_GAP));
        }
    }
    let passing = items[nodes.len()..].iter();
    Layout {
        corners: items[..nodes.len()].iter().map(|item| (item.x, item.y - item.height / 2.0)).collect(),
        sizes: items[..nodes.len()].iter().map(|item| (item.width, item.height)).collect(),
        wires,
        passing: passing.map(|item| (exit(&items[item.behind[0]]), (item.x, item.y), item.width)).collect(),
        size,
    }
}

fn item(node: &Node) -> Item {
    Item { column: node.column, width: node.width, height: node.height, behind: Vec::new(), x: 0.0, y: 0.0 }
}

/// Adds what wires take in the columns that they pass. Returns what each wire comes from at last.
fn pass(items: &mut Vec<Item>, edges: &[Edge]) -> Vec<usize> {
    let mut places: HashMap<(usize, usize), usize> = HashMap::new();
    let mut last = Vec::with_capacity(edges.len());
    for edge in edges {
        let mut before = edge.from;
        for column in items[edge.from].column + 1..items[edge.to].column {
            before = *places.entry((edge.from, column)).or_insert_with(|| {
                items.push(Item { column, width: 0.0, height: PASSING, behind: vec![before], x: 0.0, y: 0.0 });
                items.len() - 1
            });
        }
        last.push(before);
    }
    last
}

fn columns(items: &[Item]) -> Vec<Vec<usize>> {
    let n_columns = items.iter().map(|item| item.column + 1).max().unwrap_or(0);
    let mut columns = vec![Vec::new(); n_columns];
    for (idx, item) in items.iter().enumerate() {
        columns[item.column].push(idx);
    }
    columns
}

/// Sets the columns one after the other. In each, what is behind the same stands together, which
/// keeps crossings rare. Returns the size of the whole.
fn set(items: &mut [Item], columns: &[Vec<usize>], edges: &[Edge]) -> Point {
    let mut labels = vec![0.0_f64; columns.len()];
    for edge in edges {
        let column = items[edge.to].column;
        labels[column] = labels[column].max(edge.label);
    }
    let (mut x, mut highest) = (0.0, 0.0_f64);
    for (column, label) in columns.iter().zip(&labels) {
        let mut column: Vec<(f64, usize)> = column.iter().map(|&idx| (centre(items, idx), idx)).collect();
        column.sort_by(|a, b| a.0.total_cmp(&b.0));
        let width = column.iter().map(|&(_, idx)| items[idx].width).fold(0.0, f64::max);
        let height = column.iter().map(|&(_, idx)| items[idx].height + ROW_GAP).sum::<f64>() - ROW_GAP;
        x += if x > 0.0 { BEND + label } else { 0.0 };
        let mut y = -height / 2.0;
        for (_, idx) in column {
            let item = &mut items[idx];
            (item.x, item.y, item.width) = (x, y + item.height / 2.0, width);
            y += item.height + ROW_GAP;
        }
        x += width;
        highest = highest.max(height);
    }
    for item in items {
        item.y += highest / 2.0;
    }
    (x, highest)
}

/// Returns the mean height of what an item is behind; one that is behind nothing comes last.
fn centre(items: &[Item], idx: usize) -> f64 {
    let behind = &items[idx].behind;
    match behind.len() {
        0 => f64::MAX,
        n => behind.iter().map(|&before| items[before].y).sum::<f64>() / n as f64,
    }
}

fn exit(item: &Item) -> Point {
    (item.x + item.width, item.y)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(column: usize) -> Node {
        Node { column, width: 100.0, height: 40.0 }
    }

    fn edge(from: usize, to: usize) -> Edge {
        Edge { from, to, label: 30.0 }
    }

    #[test]
    fn a_chain_is_a_straight_line() {
        let layout = place(&[node(0), node(1), node(2)], &[edge(0, 1), edge(1, 2)]);
        assert_eq!(layout.corners, [(0.0, 0.0), (174.0, 0.0), (348.0, 0.0)]);
        assert_eq!(layout.wires, [((100.0, 20.0), (174.0, 20.0)), ((274.0, 20.0), (348.0, 20.0))]);
        assert_eq!((layout.size, layout.passing.len()), ((448.0, 40.0), 0));
    }

    #[test]
    fn boxes_of_a_column_stand_apart_and_wires_end_apart() {
        let nodes = [node(0), node(1), node(1), node(1), node(2)];
        let edges = [edge(0, 1), edge(0, 2), edge(0, 3), edge(3, 4), edge(2, 4), edge(1, 4)];
        let layout = place(&nodes, &edges);
        let tops: Vec<f64> = layout.corners.iter().map(|corner| corner.1).collect();
        assert_eq!(tops, [62.0, 0.0, 62.0, 124.0, 53.5]);
        let ends: Vec<f64> = layout.wires[3..].iter().map(|wire| wire.1.1).collect();
        assert_eq!(ends, [99.0, 82.0, 65.0], "in the order of where they come from");
        assert_eq!(layout.sizes[4], (100.0, 57.0), "three wires need more room than there was");
    }

    #[test]
    fn boxes_of_a_column_are_of_one_width_so_that_wires_begin_at_their_sides() {
        let narrow = Node { width: 60.0, ..node(1) };
        let layout = place(&[node(0), node(1), narrow, node(2)], &[edge(0, 1), edge(0, 2), edge(2, 3)]);
        assert_eq!((layout.sizes[2].0, layout.wires[2].0.0), (100.0, 274.0));
    }

    #[test]
    fn wires_that_pass_a_column_share_a_place_beside_its_boxes() {
        let nodes = [node(0), node(1), node(2), node(3)];
        let layout = place(&nodes, &[edge(0, 1), edge(1, 2), edge(2, 3), edge(0, 2), edge(0, 3)]);
        assert_eq!(layout.passing.len(), 2);
        for (_, (x, y), width) in &layout.passing {
            let is_clear = |corner: &Point| corner.0 != *x || *y > corner.1 + 40.0 || *y < corner.1;
            assert!(layout.corners.iter().all(is_clear), "{layout:?}");
            assert_eq!(*width, 100.0);
        }
    }

    #[test]
    fn nothing_at_all_has_no_size() {
        assert_eq!(place(&[], &[]).size, (0.0, 0.0));
    }

    #[test]
    fn the_largest_graphs_take_no_more_places_than_boxes_times_columns() {
        let nodes: Vec<Node> = (0..256).map(node).collect();
        let edges: Vec<Edge> = (0..256).flat_map(|to| (0..to).map(move |from| edge(from, to))).collect();
        let layout = place(&nodes, &edges);
        assert!(layout.passing.len() < 256 * 256 && layout.wires.len() == edges.len());
        assert!(layout.corners.iter().all(|(x, y)| x.is_finite() && y.is_finite()));
    }
}
