/**
 * A chart over time, drawn by uPlot. What it shows is also said in words, in its label; lines differ in dashes as well as in
 * colour.
 */
import { h, newId, setAttribute, setText } from "./dom.js"
import { time } from "./format.js"
import { onTheme } from "./theme.js"
import uPlot from "./uPlot.js"

const height = 168
const dashes = [undefined, [6, 4], [2, 3]]
const leastSeconds = 60
const summaryMillis = 10_000

const probe = h("span", { hidden: true })
document.body.append(probe)
const colours = new Map()

/** A colour of the theme as the canvas understands it. */
const colour = (name) => {
  let found = colours.get(name)
  if (found === undefined) {
    probe.style.color = `var(${name})`
    colours.set(name, (found = getComputedStyle(probe).color))
  }
  return found
}
onTheme(() => colours.clear())

/** Of the values that are there. */
const extremes = (values) => {
  const known = values.filter((value) => value !== null && value !== undefined)
  return known.length === 0 ? undefined : { last: known.at(-1), max: Math.max(...known), min: Math.min(...known) }
}

/** A minute at least: the first looks would be spread over years. */
const spanOf = (times) => {
  const end = times.at(-1) ?? Date.now() / 1_000
  return [Math.min(times[0] ?? end, end - leastSeconds), end]
}

const options = ({ format, least, series }, width, hover) => ({
  width,
  height,
  legend: { show: false },
  cursor: { y: false, drag: { x: false, y: false }, points: { size: 6 } },
  padding: [8, 20, 0, 0],
  scales: {
    x: { time: true, range: (plot) => spanOf(plot.data[0]) },
    y: { range: (_, __, max) => [0, Math.max(least, (max ?? 0) * 1.1)] }
  },
  axes: [
    {
      stroke: () => colour("--muted"),
      grid: { show: false },
      ticks: { show: false },
      size: 26,
      space: 70,
      values: (_, ticks) => ticks.map((tick) => time(new Date(tick * 1_000).toISOString()))
    },
    {
      stroke: () => colour("--muted"),
      grid: { stroke: () => colour("--line"), width: 1 },
      ticks: { show: false },
      size: 72,
      values: (_, ticks) => ticks.map(format)
    }
  ],
  series: [
    {},
    ...series.map((_, at) => ({
      stroke: () => colour(`--series-${at + 1}`),
      fill: at === 0 ? () => colour("--series-fill") : undefined,
      width: 2,
      dash: dashes[at],
      points: { show: false }
    }))
  ],
  hooks: { setCursor: [({ cursor }) => hover(cursor.idx)] }
})

/** `series`: labels; `least`: where the upright axis ends at least. `update(times, columns)` with times in seconds and one column for each label. */
export const chart = ({ format, hint, least = 10, series, title }) => {
  const id = newId()
  const values = series.map(() => h("b", {}))
  const legend = series.map((label, at) =>
    h(
      "span",
      { class: "key" },
      h("i", { class: `line line-${at + 1}`, "aria-hidden": "true" }),
      `${label} `,
      values[at]
    )
  )
  const place = h("div", { class: "plot", role: "img", "aria-label": title })
  const element = h(
    "figure",
    { class: "chart", "aria-labelledby": id },
    h("figcaption", { id }, h("span", { class: "chart-title", title: hint }, title), ...legend),
    place
  )
  let data = [[], ...series.map(() => [])]
  let plot
  let hovered = null
  let summed = 0

  const tell = () => {
    const at = hovered ?? data[0].length - 1
    for (const [i, value] of values.entries()) {
      const shown = data[i + 1][at]
      setText(value, shown === null || shown === undefined ? "–" : format(shown))
    }
  }
  const summarize = (now) => {
    if (now - summed < summaryMillis) return
    summed = now
    const words = series.map((label, at) => {
      const found = extremes(data[at + 1])
      return found === undefined
        ? `${label}: nothing yet`
        : `${label}: now ${format(found.last)}, from ${format(found.min)} to ${format(found.max)}`
    })
    const first = data[0][0]
    const from = first === undefined ? "" : ` since ${time(new Date(first * 1_000).toISOString())}`
    setAttribute(place, "aria-label", `${title}${from}. ${words.join("; ")}.`)
  }
  const hover = (index) => {
    hovered = index ?? null
    tell()
  }

  const sizes = new ResizeObserver(([entry]) => {
    const width = Math.floor(entry.contentRect.width)
    if (width === 0) return
    if (plot === undefined) plot = new uPlot(options({ format, least, series }, width, hover), data, place)
    else if (plot.width !== width) plot.setSize({ width, height })
  })
  sizes.observe(place)
  const themes = onTheme(() => plot?.redraw(false, true))
  return {
    element,
    update: (times, columns) => {
      data = [times, ...columns.map((column) => column ?? times.map(() => null))]
      plot?.setData(data)
      tell()
      summarize(performance.now())
    },
    close: () => {
      sizes.disconnect()
      themes()
      plot?.destroy()
    }
  }
}
