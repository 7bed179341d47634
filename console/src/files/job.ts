// What the page of file sharing makes of a job.

import type { FileFormat, FileJob, ImportReport, RowError } from '../api/types'

/** How the formats are called; complete by type, so that a new one in the document cannot be forgotten here. */
export const FORMAT_NAMES: Record<FileFormat, string> = {
  xlsx: 'Excel（XLSX）',
  csv: 'CSV',
  ndjson: 'NDJSON',
  parquet: 'Parquet',
}

/** The platform's bound on an uploaded file and on an import of all rows or none (docs/integrators.md). */
export const MAX_UPLOAD_BYTES = 1024 ** 3
export const MAX_ATOMIC_ROWS = 20_000

export function isFinal(job: FileJob): boolean {
  return job.state !== 'queued' && job.state !== 'running'
}

/** Done in percent, or null when the whole is not known yet. */
export function percent(job: FileJob): number | null {
  if (job.total <= 0) return null
  return Math.min(100, Math.floor((job.done / job.total) * 100))
}

/** A span as hours, minutes and seconds: the two largest that are not zero. */
export function spanOf(seconds: number): { h: number; m: number; s: number } {
  const whole = Math.max(0, Math.ceil(seconds))
  return { h: Math.floor(whole / 3600), m: Math.floor((whole % 3600) / 60), s: whole % 60 }
}

/** Seconds until a moment; null when it is past or not said. */
export function secondsUntil(text: string | null | undefined, nowMs: number): number | null {
  const at = text ? Date.parse(text) : Number.NaN
  return at > nowMs ? (at - nowMs) / 1000 : null
}

export function sizeText(bytes: number): string {
  if (bytes < 1024) return `${bytes} B`
  if (bytes < 1024 ** 2) return `${(bytes / 1024).toFixed(1)} KB`
  if (bytes < 1024 ** 3) return `${(bytes / 1024 ** 2).toFixed(1)} MB`
  return `${(bytes / 1024 ** 3).toFixed(1)} GB`
}

/** Rows that got in or would. */
export function taken(report: ImportReport): number {
  return (report.inserted ?? 0) + (report.updated ?? 0)
}

const COLUMNS: readonly (keyof RowError)[] = ['sheet', 'row', 'column', 'deviceId', 'rule', 'message']

/** The refused rows as CSV with a mark, so that a spreadsheet reads the Chinese; no cell of it is run there. */
export function reportCsv(errors: readonly RowError[], headings: readonly string[]): string {
  const rows = errors.map((error) => COLUMNS.map((name) => String(error[name] ?? '')))
  return `\ufeff${[headings, ...rows].map((row) => row.map(cell).join(',')).join('\r\n')}\r\n`
}

function cell(text: string): string {
  const safe = /^[=+\-@\t\r]/.test(text) ? `'${text}` : text
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe
}
