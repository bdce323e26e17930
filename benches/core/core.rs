//! What the rules cost: `cargo bench --bench core`. `haul report` takes the figures into RESULTS.md.

use criterion::{Criterion, criterion_group, criterion_main};
use kuroshio_core_benches::cases;

fn rules(c: &mut Criterion) {
    let Ok(cases) = cases() else { return };
    let mut group = c.benchmark_group("core");
    for mut case in cases {
        group.bench_function(case.name, |b| b.iter(&mut case.rule));
    }
    group.finish();
}

criterion_group!(benches, rules);
criterion_main!(benches);
