//! The examples, as one runs them: each is started as a process of its own, talked to, and ended.

mod chat;
mod proxy;
mod running;
mod slides_poll;
mod small;
