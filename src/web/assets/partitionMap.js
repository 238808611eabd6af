/**
 * Who runs which partition: a cell each, with the owner's letter and colour and the epoch. What has just changed is marked
 * for some seconds, so that a rebalance is seen as it happens. One cell is in the tab order; arrows go from there.
 */
import { h, keyed, newId, setAttribute, setText, show } from "./dom.js"
import { count, duration, plural, time } from "./format.js"
import { history } from "./history.js"
import { markOf } from "./owners.js"
import { facts } from "./parts.js"

const freshMillis = 8_000

/** What is known of each partition: owner, lag, what its worker does with it. */
const cellsOf = ({ lag, processor, workers }) => {
  const cells = processor.owners.map((owner, partition) => ({
    partition,
    owner,
    events: 0,
    seconds: 0,
    isAside: processor.quarantined.includes(partition),
    changedAt: history.changedAt(processor.name, partition)
  }))
  for (const { events, partition, seconds } of lag?.partitions ?? []) {
    const cell = cells[partition]
    if (cell === undefined) continue
    cell.events += events
    cell.seconds = Math.max(cell.seconds, seconds)
  }
  for (const { member, report } of workers) {
    for (const doing of report?.partitions ?? []) {
      const cell = cells[doing.partition]
      if (doing.processor === processor.name && cell?.owner?.member === member) cell.doing = doing
    }
  }
  return cells
}

const labelOf = ({ events, isAside, owner, partition }) => {
  const who = owner === null ? "nobody" : `${owner.member}, epoch ${owner.epoch}`
  return `Partition ${partition}: ${who}${isAside ? ", quarantined" : ""}, ${plural(events, "event")} behind`
}

/** Epochs are large and alike: their ends tell them apart. */
const endOf = (epoch) => (epoch.length > 5 ? `…${epoch.slice(-4)}` : epoch)

const makeCell = (choose) => (cell) => {
  const who = h("span", { class: "slot-owner", "aria-hidden": "true" })
  const epoch = h("span", { class: "slot-epoch", "aria-hidden": "true" })
  const bar = h("span", { class: "slot-lag", "aria-hidden": "true" })
  const element = h(
    "button",
    { type: "button", class: "slot", tabindex: "-1", click: () => choose(cell.partition) },
    h("span", { class: "slot-number", "aria-hidden": "true" }, String(cell.partition)),
    who,
    epoch,
    bar
  )
  element.addEventListener("focus", () => choose(cell.partition))
  return {
    element: h("li", {}, element),
    update: (cell) => {
      const { changedAt, isAside, isFresh, owner, share } = cell
      const mark = owner === null ? undefined : markOf(owner.member)
      setText(who, isAside ? "!" : (mark?.letter ?? "–"))
      setText(epoch, owner === null ? "" : endOf(owner.epoch))
      setAttribute(element, "data-owner", isAside ? "aside" : (mark?.tone ?? "none"))
      setAttribute(element, "data-fresh", isFresh ? changedAt : undefined)
      setAttribute(element, "aria-label", labelOf(cell))
      setAttribute(element, "title", labelOf(cell))
      const width = `${Math.round(share * 100)}%`
      if (bar.style.width !== width) bar.style.width = width
    }
  }
}

const legendOf = (cells, members) => {
  const owned = new Map(members.toSorted().map((member) => [member, 0]))
  let nobody = 0
  for (const { owner } of cells) {
    if (owner === null) nobody++
    else owned.set(owner.member, (owned.get(owner.member) ?? 0) + 1)
  }
  const all = Array.from(owned, ([member, size]) => ({ member, size, ...markOf(member) }))
  return nobody === 0 ? all : [...all, { member: "nobody", size: nobody, letter: "–", tone: "none" }]
}

const legendItem = () => {
  const letter = h("b", { class: "mark", "aria-hidden": "true" })
  const text = h("span", {})
  return {
    element: h("li", {}, letter, text),
    update: ({ letter: sign, member, size, tone }) => {
      setText(letter, sign)
      setAttribute(letter, "data-owner", tone)
      setText(text, `${member}: ${count(size)}`)
    }
  }
}

const detailsOf = ({ changedAt, doing, events, isAside, owner, partition, seconds }) => [
  ["Partition", String(partition)],
  ["Owner", owner === null ? (isAside ? "nobody: quarantined" : "nobody") : owner.member],
  ["Epoch", owner?.epoch],
  ["Behind", `${plural(events, "event")}${seconds > 0 ? `, ${duration(seconds)}` : ""}`],
  [
    "In hand",
    doing && doing.inHand > 0 ? `${plural(doing.inHand, "event")}, for ${duration(doing.millis / 1_000)}` : ""
  ],
  ["Oldest in hand", doing?.offset ?? ""],
  ["Read ahead", doing ? count(doing.ahead) : ""],
  ["To commit", doing ? count(doing.uncommitted) : ""],
  ["Owner changed", changedAt === 0 ? "" : time(new Date(changedAt).toISOString())]
]

export const partitionMap = () => {
  const hint = newId()
  const legend = h("ul", { class: "legend", "aria-label": "Owners" })
  const grid = h("ul", { class: "map", "aria-describedby": hint })
  const details = facts()
  const aside = h("div", { class: "map-details", hidden: true }, details.element)
  let cells = []
  let chosen

  const buttons = () => Array.from(grid.querySelectorAll(".slot"))
  const choose = (partition) => {
    chosen = partition
    for (const [at, button] of buttons().entries()) {
      setAttribute(button, "tabindex", at === (chosen ?? 0) ? "0" : "-1")
      setAttribute(button, "aria-current", at === chosen ? "true" : undefined)
    }
    const cell = cells[partition]
    show(aside, cell !== undefined)
    if (cell !== undefined) details.update(detailsOf(cell))
  }
  /** Cells of a line, as they are laid out now. */
  const perLine = () => {
    const all = buttons()
    const top = all[0]?.getBoundingClientRect().top
    const second = all.findIndex((button) => button.getBoundingClientRect().top > top + 2)
    return second === -1 ? all.length : second
  }
  grid.addEventListener("keydown", (event) => {
    const at = chosen ?? 0
    const to = {
      ArrowRight: () => at + 1,
      ArrowLeft: () => at - 1,
      ArrowDown: () => at + perLine(),
      ArrowUp: () => at - perLine(),
      Home: () => 0,
      End: () => cells.length - 1
    }[event.key]?.()
    if (to === undefined) return
    event.preventDefault()
    buttons()[Math.min(Math.max(to, 0), cells.length - 1)]?.focus()
  })

  const fillLegend = keyed(legend, ({ member }) => member, legendItem)
  const fill = keyed(grid, ({ partition }) => partition, makeCell(choose))
  return {
    element: h(
      "div",
      {},
      legend,
      h("p", { class: "unseen", id: hint }, "Arrow keys go from partition to partition."),
      grid,
      aside
    ),
    update: ({ lag, now, processor, workers }) => {
      setAttribute(grid, "aria-label", `Partitions of ${processor.name}`)
      cells = cellsOf({ lag, processor, workers })
      const most = Math.max(1, ...cells.map(({ events }) => events))
      for (const cell of cells) {
        cell.share = cell.events / most
        cell.isFresh = now - cell.changedAt < freshMillis
      }
      fillLegend(legendOf(cells, processor.members))
      fill(cells)
      if (chosen === undefined) {
        const first = grid.querySelector(".slot")
        if (first !== null) setAttribute(first, "tabindex", "0")
      } else if (cells[chosen] !== undefined) details.update(detailsOf(cells[chosen]))
    }
  }
}
