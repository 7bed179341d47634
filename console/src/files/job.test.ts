import { describe, expect, it } from 'vitest'

import type { FileJob, RowError } from '../api/types'
import { isFinal, percent, reportCsv, secondsUntil, sizeText, spanOf } from './job'

function job(changes: Partial<FileJob>): FileJob {
  return { state: 'running', done: 0, total: 0, ...changes } as FileJob
}

describe('percent', () => {
  it('is unknown while the whole is, and never beyond all', () => {
    expect(percent(job({ done: 5 }))).toBeNull()
    expect(percent(job({ done: 1, total: 3 }))).toBe(33)
    expect(percent(job({ done: 4, total: 3 }))).toBe(100)
  })
})

describe('isFinal', () => {
  it('is false only while a job waits or runs', () => {
    expect((['queued', 'running'] as const).map((state) => isFinal(job({ state })))).toEqual([false, false])
    expect((['done', 'refused', 'failed', 'cancelled', 'undone'] as const).every((state) => isFinal(job({ state })))).toBe(true)
  })
})

describe('times', () => {
  it('takes a span apart', () => {
    expect(spanOf(3725.2)).toEqual({ h: 1, m: 2, s: 6 })
    expect(spanOf(-1)).toEqual({ h: 0, m: 0, s: 0 })
  })

  it('counts down and ends', () => {
    const now = Date.parse('2026-11-26T08:00:00Z')
    expect(secondsUntil('2026-11-26T16:01:00+08:00', now)).toBe(60)
    expect(secondsUntil('2026-11-26T15:59:00+08:00', now)).toBeNull()
    expect(secondsUntil(null, now)).toBeNull()
  })
})

describe('sizeText', () => {
  it('uses the unit that fits', () => {
    expect([999, 1536, 5 * 1024 ** 2, 1024 ** 3].map(sizeText)).toEqual(['999 B', '1.5 KB', '5.0 MB', '1.0 GB'])
  })
})

describe('reportCsv', () => {
  const error: RowError = {
    sheet: '', row: 3, column: 'Name', deviceId: '31', code: 42202, rule: 'formula', message: '含 "=1+1"，不可用',
  }

  it('names place and reason, quoted, with a mark for spreadsheets', () => {
    const text = reportCsv([error], ['表', '行', '列', '编码', '规则', '问题'])
    expect(text).toBe('\ufeff表,行,列,编码,规则,问题\r\n,3,Name,31,formula,"含 ""=1+1""，不可用"\r\n')
  })

  it('lets no spreadsheet run what a file said', () => {
    expect(reportCsv([{ ...error, deviceId: '=HYPERLINK(1)' }], ['h'])).toContain(",'=HYPERLINK(1),")
  })
})
