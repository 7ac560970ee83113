//! CSV: every scalar as a row `step,time,name,value`.
//!
//! One value per row, so that the file can grow: metrics come and go, and scores have separate
//! rows. `pandas.read_csv(file).pivot_table(index="step", columns="name", values="value")` has a
//! column for each metric.

use std::path::Path;

use super::file::GrowingFile;
use super::{Point, Sink};
use crate::run::WriteError;

/// The file in the folder.
const NAME: &str = "scalars.csv";

/// A CSV file that grows.
#[derive(Debug)]
pub struct ScalarTable {
    file: GrowingFile,
}

impl ScalarTable {
    /// Starts `scalars.csv` in `folder`.
    ///
    /// # Errors
    /// Names the folder or the file.
    pub fn create(folder: &Path) -> Result<Self, WriteError> {
        let mut file = GrowingFile::create(&folder.join(NAME))?;
        file.append(b"step,time,name,value\n")?;
        Ok(Self { file })
    }

    fn rows(&mut self, prefix: &str, point: &Point) -> Result<(), WriteError> {
        let rows: String = point
            .scalars
            .iter()
            .map(|(name, value)| {
                let (step, time) = (point.step, point.time);
                let name = quoted(&format!("{prefix}{name}"));
                let value = value.to_string().to_lowercase();
                format!("{step},{time},{name},{value}\n")
            })
            .collect();
        self.file.append(rows.as_bytes())
    }
}

impl Sink for ScalarTable {
    fn scalars(&mut self, point: &Point) -> Result<(), WriteError> {
        self.rows("", point)
    }

    fn system(&mut self, point: &Point) -> Result<(), WriteError> {
        self.rows("system/", point)
    }

    fn publish(&mut self) -> Result<(), WriteError> {
        self.file.publish()
    }

    fn path(&self) -> &Path {
        self.file.path()
    }
}

/// A field as RFC 4180 has it. Names of rewards come from the experiment.
fn quoted(field: &str) -> String {
    if field.contains(['"', ',', '\n', '\r']) {
        format!("\"{}\"", field.replace('"', "\"\""))
    } else {
        field.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    #[test]
    fn rows_survive_names_and_values_of_any_kind() {
        let folder = tempfile::tempdir().unwrap();
        let mut table = ScalarTable::create(folder.path()).unwrap();
        let point = Point {
            time: Timestamp::UNIX_EPOCH,
            step: 7,
            scalars: vec![
                ("train/loss".to_owned(), f64::NAN),
                ("train/rewards/a \"b\", 길이/mean".to_owned(), 1e-9),
            ],
        };
        table.scalars(&point).unwrap();
        table.publish().unwrap();
        assert_eq!(
            std::fs::read_to_string(table.path()).unwrap(),
            "step,time,name,value\n\
             7,1970-01-01T00:00:00Z,train/loss,nan\n\
             7,1970-01-01T00:00:00Z,\"train/rewards/a \"\"b\"\", 길이/mean\",0.000000001\n"
        );
    }
}
