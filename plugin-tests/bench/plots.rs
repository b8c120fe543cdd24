//! Plots of the summary: SVG files beside rows.csv.

use std::collections::BTreeSet;
use std::error::Error;
use std::path::Path;

use plotters::prelude::*;

use crate::statistics::Ratio;
use crate::summary::{Summary, cpu, rate};

const SIZE: (u32, u32) = (900, 420);

/// Draws one plot for each scenario with ratios at several points.
pub fn draw(summaries: &[Summary], folder: &Path) -> Result<(), Box<dyn Error>> {
    let scenarios: BTreeSet<&str> = summaries.iter().map(|it| it.scenario).collect();
    for scenario in scenarios {
        let points: Vec<_> = summaries.iter().filter(|it| it.scenario == scenario).collect();
        if points.len() > 1 {
            let file = folder.join(format!("{}.svg", scenario.replace(' ', "-")));
            draw_ratios(scenario, &points, &file)?;
        }
    }
    Ok(())
}

fn draw_ratios(scenario: &str, points: &[&Summary], file: &Path) -> Result<(), Box<dyn Error>> {
    let cpu: Vec<Option<Ratio>> = points.iter().map(|it| it.ratio(cpu)).collect();
    let rate: Vec<Option<Ratio>> = points.iter().map(|it| it.ratio(rate)).collect();
    let highest = cpu.iter().chain(&rate).flatten().map(|it| it.high).fold(1.5, f64::max) * 1.05;
    let area = SVGBackend::new(file, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .caption(
            format!(
                "{scenario}: Octopus / {}",
                if scenario.starts_with("C++") { "C++ Octopus" } else { "librdkafka alone" }
            ),
            ("sans-serif", 20),
        )
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(48)
        .build_cartesian_2d(-0.5..points.len() as f64 - 0.5, 0.0..highest)?;
    let name = |at: &f64| {
        let is_at_a_point = (at - at.round()).abs() < 0.01;
        let point = if is_at_a_point { points.get(at.round() as usize) } else { None };
        point.map(|it| it.at.clone()).unwrap_or_default()
    };
    chart
        .configure_mesh()
        .disable_x_mesh()
        .x_labels(points.len() * 2 + 1)
        .x_label_formatter(&name)
        .y_desc("ratio")
        .draw()?;
    chart.draw_series(LineSeries::new([(-0.5, 1.0), (points.len() as f64 - 0.5, 1.0)], BLACK.mix(0.6)))?;
    for (ratios, color, label, shift) in
        [(&cpu, BLUE, "CPU per event (less is better)", -0.08), (&rate, RED, "rate (more is better)", 0.08)]
    {
        let known: Vec<(f64, Ratio)> =
            ratios.iter().enumerate().filter_map(|(index, it)| Some((index as f64 + shift, (*it)?))).collect();
        chart
            .draw_series(
                known.iter().map(|&(at, it)| ErrorBar::new_vertical(at, it.low, it.median, it.high, color.filled(), 8)),
            )?
            .label(label)
            .legend(move |(x, y)| Circle::new((x + 8, y), 4, color.filled()));
    }
    chart.configure_series_labels().background_style(WHITE.mix(0.8)).border_style(BLACK).draw()?;
    area.present()?;
    Ok(())
}
