/** Light, dark, or as the system has it: kept in this browser, told to who draws by hand. */
import { setAttribute, setText } from "./dom.js"

const kept = "millrace-theme"
const order = ["system", "light", "dark"]
const signs = { system: "◐", light: "○", dark: "●" }
const listeners = new Set()

const chosen = () => (order.includes(localStorage.getItem(kept)) ? localStorage.getItem(kept) : "system")

const apply = () => {
  const theme = chosen()
  setAttribute(document.documentElement, "data-theme", theme === "system" ? undefined : theme)
  const button = document.getElementById("theme")
  setText(button, signs[theme])
  const following = order[(order.indexOf(theme) + 1) % order.length]
  setAttribute(button, "aria-label", `Theme: ${theme}. Change to ${following}`)
  setAttribute(button, "title", `Theme: ${theme} (t)`)
  for (const listener of listeners) listener()
}

export const nextTheme = () => {
  localStorage.setItem(kept, order[(order.indexOf(chosen()) + 1) % order.length])
  apply()
}

export const onTheme = (listener) => {
  listeners.add(listener)
  return () => listeners.delete(listener)
}

export const startTheme = () => {
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", apply)
  document.getElementById("theme").addEventListener("click", nextTheme)
  apply()
}
