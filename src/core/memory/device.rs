//! How much memory the device of an experiment has.

use super::size::Bytes;
use crate::experiment::{DeviceChoice, Experiment};
use crate::run::{Card, HostMeter};

/// The total memory of the device that the experiment runs on, if known.
pub fn device_memory(experiment: &Experiment, is_cpu: bool) -> Option<Bytes> {
    if is_cpu {
        return HostMeter::new().sample().total.map(Bytes);
    }
    let index = match experiment.model.device {
        DeviceChoice::Cuda(Some(index)) => index,
        _ => 0,
    };
    let card = Card::open(&format!("cuda:{index}"))?.ok()?;
    card.sample()?.total.map(Bytes)
}
