//! The suite, forked by a real `tare-spawn` for each test.

mod suite;
mod world;

fn world() -> world::World {
    world::World::remote()
}
