//! What a run is, for the head of a report.

use anyhow::{Context, Result, bail};
use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::run::{Event, RunDir, RunState, read_lines};

/// Letters of [`Origin::id`].
const ID_LENGTH: usize = 8;

/// What stays the same from the start of a run to its end, resumed or not.
#[derive(Clone, Debug, PartialEq)]
pub struct Origin {
    /// The folder that holds the runs of one experiment, e.g. `demo`.
    pub experiment: String,
    /// The run's own name, e.g. `seed42`.
    pub name: String,
    /// Eight letters and digits that no other run has.
    pub id: String,
    /// When the run first started.
    pub started: Timestamp,
    /// The machine; empty where it is not known.
    pub host: String,
    /// experiment.toml as it stands.
    pub toml: String,
    /// The same by section, keys in alphabetical order.
    pub config: Map<String, Value>,
}

impl Origin {
    /// Reads experiment.toml and run.json; without the latter, the first event says when the run
    /// started.
    ///
    /// # Errors
    /// experiment.toml cannot be read or is not TOML, or there is no record of when the run started.
    pub fn read(run: &RunDir) -> Result<Self> {
        let path = run.experiment_toml();
        let toml = crate::regular_file::read_to_string(&path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        // Read as plain TOML: an experiment of another version of moim is reported as well.
        let mut config: Value = toml::from_str(&toml)
            .with_context(|| format!("{} is not valid TOML", path.display()))?;
        config.sort_all_objects();
        let Value::Object(config) = config else {
            bail!("{} is not valid TOML", path.display());
        };
        let state = RunState::read(&run.run_json()).ok();
        let started = match &state {
            Some(state) => state.started,
            None => first_event(run)?,
        };
        let (id, host) =
            state.map_or_else(|| (run.id(), String::new()), |state| (state.id, state.host));
        let (experiment, name) = id.rsplit_once('/').unwrap_or(("moim", &id));
        let hash = blake3::hash(format!("{id} {started}").as_bytes());
        Ok(Self {
            experiment: experiment.to_owned(),
            name: name.to_owned(),
            id: hash.to_hex().chars().take(ID_LENGTH).collect(),
            started,
            host,
            toml,
            config,
        })
    }
}

fn first_event(run: &RunDir) -> Result<Timestamp> {
    let first = read_lines::<Event>(&run.events())?.flatten().next();
    first.map(|event| event.time).with_context(|| {
        format!(
            "{} has neither a run.json nor an event, so there is nothing to report",
            run.path().display()
        )
    })
}
