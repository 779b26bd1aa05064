// A chart of one line over the last ten minutes, drawn by uPlot. Its label says the same in words,
// and the overview has all charts as one table.
import { signal, useSignalEffect } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { minute, trimZeros } from "./format";
import { type Line, SPAN_S } from "./history";
import { history, lastStatusAt } from "./live";

/** The index of the point under the pointer, shared by all charts. */
export const hoveredIndex = signal<number | null>(null);

const dark = matchMedia("(prefers-color-scheme: dark)");
const color = (name: string) =>
  getComputedStyle(document.documentElement).getPropertyValue(name).trim();

export function Chart({
  line,
  title,
  format,
}: {
  line: Line;
  title: string;
  format: (value: number) => string;
}) {
  const container = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot>(null);

  useEffect(() => {
    const element = container.current!;
    const size = () => ({ width: element.clientWidth, height: element.clientHeight });
    const chart = new uPlot(options(line, size(), format), data(line), element);
    plot.current = chart;
    const resizeObserver = new ResizeObserver(() => chart.setSize(size()));
    resizeObserver.observe(element);
    const redraw = () => chart.redraw(false);
    dark.addEventListener("change", redraw);
    return () => {
      dark.removeEventListener("change", redraw);
      resizeObserver.disconnect();
      chart.destroy();
    };
  }, []);
  useSignalEffect(() => {
    if (lastStatusAt.value) plot.current?.setData(data(line));
  });

  const summary = history.summary(line);
  const words = summary
    ? [
        `minimum ${format(summary.min)}`,
        `average ${format(summary.mean)}`,
        `maximum ${format(summary.max)}`,
      ].join(", ")
    : "no data yet";
  return (
    <div
      class="chart"
      ref={container}
      role="img"
      aria-label={`${title} in the last ten minutes: ${words}`}
    />
  );
}

function data(line: Line): uPlot.AlignedData {
  return [history.times, history.values(line)];
}

/** Steps of an axis in bytes: powers of two, which are whole numbers of KiB and MiB. */
const BINARY = Array.from({ length: 50 }, (_, power) => 2 ** power);

function options(
  line: Line,
  size: { width: number; height: number },
  format: (value: number) => string,
): uPlot.Options {
  const font = "11px system-ui, sans-serif";
  const axis: uPlot.Axis = {
    stroke: () => color("--muted"),
    font,
    grid: { stroke: () => color("--line"), width: 1 },
    ticks: { show: false },
  };
  return {
    ...size,
    padding: [6, 18, 0, 0],
    legend: { show: false },
    cursor: {
      y: false,
      drag: { x: false, y: false },
      sync: { key: "fanfare" },
      points: { size: 6 },
    },
    scales: {
      // Always ten minutes wide, also while the history is shorter.
      x: {
        range: () => {
          const end = (lastStatusAt.peek() || Date.now()) / 1000;
          return [end - SPAN_S, end];
        },
      },
      y: {
        range: (_, __, greatest) => [0, line === "busy" ? 1 : greatest > 0 ? greatest * 1.15 : 1],
      },
    },
    axes: [
      {
        ...axis,
        size: 20,
        gap: 4,
        space: 60,
        incrs: [120, 300],
        // A label at the left end would overlap the numbers of the other axis.
        values: (plot, at) =>
          at.map((at_s) => (at_s < plot.scales.x!.min! + 30 ? null : minute(at_s * 1000))),
      },
      {
        ...axis,
        size: 58,
        gap: 6,
        space: 32,
        ...(line === "bytes" && { incrs: BINARY }),
        values: (_, at) => at.map((value) => trimZeros(format(value))),
      },
    ],
    series: [
      {},
      {
        stroke: () => color("--accent"),
        fill: () => color("--accent-faint"),
        width: 1.5,
        points: { show: false },
        spanGaps: false,
      },
    ],
    hooks: {
      setCursor: [
        (plot) => {
          hoveredIndex.value = plot.cursor.idx ?? null;
        },
      ],
    },
  };
}
