/** What an examination of an engine finds: one of these for each thing that was looked at. */
export interface Finding {
  readonly check: "version" | "persistence" | "eviction" | "clock" | "acl" | "topology" | "storage"
  /** A warning is a choice that somebody may have made; a problem loses data, or stops work, sooner or later. */
  readonly status: "ok" | "warning" | "problem"
  /** What was found, and for what is not in order: what to do. */
  readonly detail: string
}

export const finding = (check: Finding["check"], status: Finding["status"], detail: string): Finding => ({
  check,
  status,
  detail
})
