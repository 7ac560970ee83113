//! A card as its driver sees it, through NVML.

use nvml_wrapper::Nvml;
use nvml_wrapper::enum_wrappers::device::TemperatureSensor;
use nvml_wrapper::error::NvmlError;

use super::system::CardSample;

/// The driver's library by the name that is there without development files.
const LIBRARY: &str = "libnvidia-ml.so.1";

/// Which card a process means by a number, as NVML finds it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    /// The place among all cards of the machine.
    Index(u32),
    /// `GPU-…` or `MIG-…`.
    Uuid(String),
}

impl Place {
    /// The card that is `cuda:index` in a process with this value of CUDA_VISIBLE_DEVICES. Cards of
    /// different kinds in one machine are counted alike by CUDA and NVML where CUDA_DEVICE_ORDER is
    /// PCI_BUS_ID.
    fn of(index: usize, visible: Option<&str>) -> Option<Self> {
        let Some(visible) = visible else {
            return u32::try_from(index).ok().map(Self::Index);
        };
        let name = visible.split(',').nth(index)?.trim();
        match name.parse() {
            Ok(number) => Some(Self::Index(number)),
            Err(_) if name.is_empty() => None,
            Err(_) => Some(Self::Uuid(name.to_owned())),
        }
    }
}

/// A card that can be sampled.
#[derive(Debug)]
pub struct Card {
    nvml: Nvml,
    place: Place,
}

impl Card {
    /// Opens the driver's library for the card of a device named as in an experiment: `cuda:0`.
    /// `None` for other devices.
    ///
    /// # Errors
    /// Why the card cannot be sampled: no library, no permission, no such card.
    pub fn open(device: &str) -> Option<Result<Self, String>> {
        let index = device.strip_prefix("cuda:")?.parse().ok()?;
        let visible = std::env::var("CUDA_VISIBLE_DEVICES").ok();
        let Some(place) = Place::of(index, visible.as_deref()) else {
            return Some(Err(format!("CUDA_VISIBLE_DEVICES names no {device}")));
        };
        let nvml = Nvml::builder()
            .lib_path(LIBRARY.as_ref())
            .init()
            .or_else(|_| Nvml::init());
        let card = nvml.and_then(|nvml| {
            let card = Self { nvml, place };
            card.device()?;
            Ok(card)
        });
        Some(card.map_err(|error| error.to_string()))
    }

    fn device(&self) -> Result<nvml_wrapper::Device<'_>, NvmlError> {
        match &self.place {
            Place::Index(index) => self.nvml.device_by_index(*index),
            Place::Uuid(uuid) => self.nvml.device_by_uuid(uuid.as_str()),
        }
    }

    /// A sample of this moment; what the card does not report is left out.
    pub fn sample(&self) -> Option<CardSample> {
        let device = self.device().ok()?;
        let memory = device.memory_info().ok();
        Some(CardSample {
            used: memory.as_ref().map(|memory| memory.used),
            total: memory.as_ref().map(|memory| memory.total),
            utilization_percent: device
                .utilization_rates()
                .ok()
                .map(|rates| f64::from(rates.gpu)),
            temperature_c: device
                .temperature(TemperatureSensor::Gpu)
                .ok()
                .map(f64::from),
            // NVML counts milliwatts.
            power_watts: device
                .power_usage()
                .ok()
                .map(|power| f64::from(power) / 1000.0),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_is_found_through_the_visible_devices() {
        let uuid = |name: &str| Some(Place::Uuid(name.to_owned()));
        for (index, visible, place) in [
            (1, None, Some(Place::Index(1))),
            (0, Some("2,3"), Some(Place::Index(2))),
            (1, Some("2, 3"), Some(Place::Index(3))),
            (2, Some("2,3"), None),
            (0, Some(""), None),
            (0, Some("GPU-5f0c,1"), uuid("GPU-5f0c")),
            (0, Some("MIG-77aa"), uuid("MIG-77aa")),
        ] {
            assert_eq!(Place::of(index, visible), place, "{index} of {visible:?}");
        }
    }

    #[test]
    fn the_cpu_has_no_card() {
        assert!(Card::open("cpu").is_none());
    }
}
