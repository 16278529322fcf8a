//! How facts look: tables, templates, times, states and ports. Values in, text out; nothing is printed here.

pub mod container;
pub mod filter;
pub mod list;
pub mod table;
pub mod template;
pub mod time;
