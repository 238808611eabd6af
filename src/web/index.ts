/**
 * Health, metrics, the API and the page over HTTP. It is an entry of its own (`millrace/web`), so that programs without it
 * do not load it.
 */

/** A worker over HTTP. */
export * as Web from "./Web.ts"
