//! What the rules cost per record.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use kuroshio_core::origin::{Forward, Guard, Verdict};
use kuroshio_core::types::SourceOffset;
use kuroshio_core::window::Window;

/// The value of an order event of the size in DESIGN's numbers.
const VALUE: [u8; 340] = [b'x'; 340];

fn origin(c: &mut Criterion) {
    let (Ok(there), Ok(back)) = (
        Guard::new("tw", "orders", 3, "jp", "orders", Forward::Local),
        Guard::new("jp", "orders", 3, "tw", "orders", Forward::Local),
    ) else {
        return;
    };
    let (key, value) = (Some(&b"order-8814"[..]), Some(&VALUE[..]));
    let mut tag = Vec::new();
    let mut group = c.benchmark_group("origin");
    group.throughput(Throughput::Elements(1));
    group.bench_function("born here: judge and write the tag", |b| {
        b.iter(|| {
            if let Verdict::Forward { earlier, check } = there.judge([], black_box(key), black_box(value)) {
                tag.clear();
                there.write(&mut tag, earlier, SourceOffset(8814), check);
            }
        });
    });
    group.bench_function("replicated: judge and skip", |b| {
        b.iter(|| back.judge([tag.as_slice()], key, black_box(value)));
    });
    group.finish();
}

fn window(c: &mut Criterion) {
    let mut group = c.benchmark_group("window");
    let run = 1000;
    group.throughput(Throughput::Elements(1000));
    group.bench_function("a run of 1000 records read and placed", |b| {
        let mut window = Window::new(SourceOffset(0));
        let mut at = 0;
        b.iter(|| {
            let (first, next) = (SourceOffset(at), SourceOffset(at + run));
            at += run;
            black_box(window.read(first, next, &[(first, next)])).and_then(|()| window.placed(first, 1000))
        });
    });
    group.finish();
}

criterion_group!(benches, origin, window);
criterion_main!(benches);
