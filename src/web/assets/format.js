/** Numbers, durations, sizes and times as an operator reads them. */

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 })
const short = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 })
const small = new Intl.NumberFormat("en", { maximumFractionDigits: 1 })

export const count = (n) => whole.format(n)
export const compact = (n) => (Math.abs(n) < 10_000 ? whole.format(n) : short.format(n))
export const rate = (n) => (n < 100 ? small.format(n) : compact(n))
export const perSecond = (n) => `${rate(n)}/s`
export const plural = (n, one, many = `${one}s`) => `${count(n)} ${n === 1 ? one : many}`

/** A duration from seconds: two units at most. */
export const duration = (seconds) => {
  if (seconds === 0) return "0 s"
  if (seconds < 0.001) return `${small.format(seconds * 1_000_000)} µs`
  if (seconds < 1) return `${small.format(seconds * 1_000)} ms`
  if (seconds < 60) return `${seconds < 10 ? small.format(seconds) : Math.floor(seconds)} s`
  const minutes = Math.floor(seconds / 60)
  if (minutes < 60) return `${minutes} min ${Math.floor(seconds % 60)} s`
  const hours = Math.floor(minutes / 60)
  return hours < 48 ? `${hours} h ${minutes % 60} min` : `${Math.floor(hours / 24)} d ${hours % 24} h`
}

export const bytes = (n) => {
  const units = ["B", "KiB", "MiB", "GiB"]
  let unit = 0
  while (n >= 1_024 && unit < units.length - 1) {
    n /= 1_024
    unit++
  }
  return `${unit === 0 ? n : small.format(n)} ${units[unit]}`
}

const clock = new Intl.DateTimeFormat("en", { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" })
const day = new Intl.DateTimeFormat("en", { month: "short", day: "numeric", year: "numeric" })

/** Local time; with the day unless it is today. */
export const time = (iso) => {
  if (iso === null) return "–"
  const at = new Date(iso)
  if (Number.isNaN(at.getTime())) return iso
  const text = clock.format(at)
  return at.toDateString() === new Date().toDateString() ? text : `${day.format(at)}, ${text}`
}

/** From one moment to another, in words; both ISO 8601. */
export const since = (iso, now) => `${duration(Math.max(0, (Date.parse(now) - Date.parse(iso)) / 1_000))} ago`

/** When something comes next; what a worker said some seconds ago may be over by now. */
export const upcoming = (iso, now) => {
  if (iso === null) return "–"
  const seconds = Math.round((Date.parse(iso) - Date.parse(now)) / 1_000)
  return `${time(iso)}, ${seconds <= 0 ? "due" : `in ${duration(seconds)}`}`
}

const millisUnits = [
  ["d", 86_400_000],
  ["h", 3_600_000],
  ["min", 60_000],
  ["s", 1_000]
]

/** A period such as "15 min", exact. */
export const period = (millis) => {
  for (const [unit, size] of millisUnits) if (millis % size === 0) return `${count(millis / size)} ${unit}`
  return `${count(millis)} ms`
}

/** Of a long text, such as an error with its stack: what fits a row. */
export const firstLine = (text) => {
  const line = text.split("\n", 1)[0].trim()
  return line.length > 200 ? `${line.slice(0, 200)}…` : line
}
