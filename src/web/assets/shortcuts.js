/** Keys that do something by themselves, the list of them, and the choice to be without. */
import { read } from "./dialog.js"
import { h, newId } from "./dom.js"

const kept = "millrace-keys"
const areOn = () => localStorage.getItem(kept) !== "off"

const isTyping = ({ target }) => target.closest("input, textarea, select, dialog") !== null

/** `keys`: `[key, what it does, action]`. */
export const listenToKeys = (keys) => {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || !areOn() || isTyping(event)) return
    const found = keys.find(([key]) => key === event.key)
    if (found === undefined) return
    event.preventDefault()
    found[2]()
  })
}

export const explainKeys = (keys) => {
  const id = newId()
  const choice = h("input", { type: "checkbox", id })
  choice.checked = areOn()
  choice.addEventListener("change", () => localStorage.setItem(kept, choice.checked ? "on" : "off"))
  const more = [
    ["Tab, Shift+Tab", "Next and previous link, button or field"],
    ["Arrows, Home, End", "In a partition map: another partition"],
    ["Escape", "Close a dialog"]
  ]
  return read(
    "Help",
    h("h3", {}, "Keyboard"),
    h(
      "dl",
      { class: "keys" },
      ...[...keys, ...more].map(([key, what]) => h("div", {}, h("dt", {}, h("kbd", {}, key)), h("dd", {}, what)))
    ),
    h("p", {}, choice, " ", h("label", { for: id }, "Single keys do this (they never do in a field)")),
    h("h3", {}, "What is shown"),
    h(
      "p",
      {},
      "Everything is live, a look every second; times are those of this browser. Charts begin when this page is opened; keep longer histories with ",
      h("a", { href: "/metrics" }, "/metrics"),
      ". The same as JSON is under ",
      h("a", { href: "/api/openapi.json" }, "/api"),
      ", and in the command line, ",
      h("code", {}, "millrace"),
      "."
    )
  )
}
