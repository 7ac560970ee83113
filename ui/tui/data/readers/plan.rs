//! What the plan of an experiment follows from besides its text.

use std::cell::OnceCell;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use moim_core::dataset::load_records;
use moim_core::experiment::{DeviceChoice, Experiment};
use moim_core::memory::Shapes;
use moim_core::run::{Card, total_memory};

use super::stamp::{Stamp, stamp};
use super::worker::Worker;
use crate::tui::data::plan::PlanFacts;
use crate::tui::message::{Data, Message};

/// Nothing is read unless it is asked for.
const NO_HURRY: Duration = Duration::from_secs(3600);

/// Starts to read facts for experiments, the newest that was asked for.
pub(super) fn start(messages: &Sender<Message>) -> Worker<Experiment> {
    Worker::start("plan", messages, |inbox, outbox| {
        let mut reader = FactsReader::default();
        loop {
            let asked = inbox.wait(NO_HURRY)?;
            if let Some(experiment) = inbox.newest()?.or(asked) {
                outbox.send(Data::Plan(reader.read(&experiment)))?;
            }
        }
    })
}

/// The number of records of a version of a file.
type Records = (PathBuf, Option<Stamp>, Option<Result<usize, String>>);

#[derive(Default)]
struct FactsReader {
    records: Option<Records>,
    cards: OnceCell<Vec<u64>>,
}

impl FactsReader {
    fn read(&mut self, experiment: &Experiment) -> PlanFacts {
        let cards = self.cards.get_or_init(memory_of_cards);
        let mut shapes = Shapes::read(experiment);
        shapes.has_cuda = !cards.is_empty();
        let capacity = match experiment.model.device {
            DeviceChoice::Cpu => total_memory(),
            DeviceChoice::Auto => cards.first().copied().or_else(total_memory),
            DeviceChoice::Cuda(index) => cards.get(index.unwrap_or(0)).copied(),
            // wgpu does not tell the memory of a card.
            DeviceChoice::Wgpu => None,
        };
        PlanFacts {
            model: experiment.model.path.clone(),
            encoder: experiment.bertscore.model.clone(),
            train: experiment.data.train.clone(),
            records: self.records(&experiment.data.train),
            missing: experiment
                .check_files()
                .iter()
                .map(ToString::to_string)
                .collect(),
            capacity,
            shapes: Some(Arc::new(shapes)),
        }
    }

    /// The records of a file; `None` if it does not exist, which is reported as missing.
    fn records(&mut self, path: &Path) -> Option<Result<usize, String>> {
        let now = stamp(path);
        if let Some((known, stamp, records)) = &self.records
            && known == path
            && *stamp == now
        {
            return records.clone();
        }
        let records = now.map(|_| match load_records(path) {
            Ok(records) => Ok(records.len()),
            Err(error) => Err(error.to_string()),
        });
        self.records = Some((path.to_owned(), now, records.clone()));
        records
    }
}

/// Bytes of memory of each card that this process may use, by its driver; none where there is no
/// driver. No context is made on a card: a trainer may need all of its memory.
fn memory_of_cards() -> Vec<u64> {
    (0..)
        .map_while(|index| {
            let card = Card::open(&format!("cuda:{index}"))?.ok()?;
            card.sample()?.total
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_counted_and_what_is_not_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let train = folder.path().join("학습.jsonl");
        let record = |id: usize| {
            format!(
                "{{\"id\": \"{id}\", \"input\": {{\"question_type\": \"선택형\", \"question\": \"q\"}}, \
                 \"output\": {{\"answer\": \"a\"}}}}\n"
            )
        };
        std::fs::write(&train, (0..3).map(record).collect::<String>()).unwrap();
        let mut experiment = Experiment::default();
        experiment.model.path = folder.path().join("model");
        experiment.model.device = DeviceChoice::Cpu;
        experiment.data.train = train.clone();
        experiment.data.eval = folder.path().join("eval.json");
        let mut reader = FactsReader::default();
        let facts = reader.read(&experiment);
        assert_eq!(
            (facts.train.as_path(), facts.records),
            (train.as_path(), Some(Ok(3)))
        );
        assert!(
            facts
                .missing
                .iter()
                .any(|fault| fault.contains("eval.json")),
            "{:?}",
            facts.missing
        );
        assert!(facts.shapes.unwrap().decoder.is_err());
        assert_eq!(facts.capacity, total_memory());

        std::fs::write(&train, record(1) + &record(1)).unwrap();
        assert!(
            reader
                .read(&experiment)
                .records
                .unwrap()
                .unwrap_err()
                .contains('1')
        );
        std::fs::remove_file(&train).unwrap();
        assert_eq!(reader.read(&experiment).records, None);
    }
}
