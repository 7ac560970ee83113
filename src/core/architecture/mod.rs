//! Shapes of models from their `config.json`: the decoders of the Llama family and their relatives, and
//! the encoders that BERTScore uses. No tensors: the memory plan and the terminal UI use them too.

mod decoder;
pub mod encoder;
mod family;
mod layer_table;
mod projection;
mod quantized;

pub use decoder::{LlamaConfig, RopeScaling, WeightFormat};
pub use encoder::EncoderConfig;
pub use family::Family;
pub use layer_table::default_layers;
pub use projection::{Projection, QKV};
pub use quantized::{NF4_HINT, stored_in_nf4};
