//! The suite, forked by the test itself.

mod suite;
mod world;

fn world() -> world::World {
    world::World::local().0
}
