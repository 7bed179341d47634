import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'

import { FIELDS, type Part, label, shown } from './fields'

const document = JSON.parse(readFileSync(new URL('../../../docs/openapi.json', import.meta.url), 'utf8'))
const properties = (schema: string): string[] => Object.keys(document.components.schemas[schema].properties)
// What we add to the record is shown beside its fields.
const OURS = new Set([
  'Info', 'ext', 'geoCoordSys', 'issues', 'missingSince', 'provenance', 'sourcePlatform', 'updateTime', 'version',
])

describe('FIELDS', () => {
  it.each<[Part, string]>([['', 'DeviceDetail'], ['Info', 'DeviceInfoFields'], ['ext', 'ExtFields']])(
    'names every field of the record, part %j',
    (part, schema) => {
      const named = FIELDS.filter((field) => field.part === part).map((field) => field.name)
      const standard = properties(schema).filter((name) => /^[A-Z]/.test(name) && !OURS.has(name))
      expect(named.toSorted()).toEqual(standard.toSorted())
    },
  )
})

describe('shown', () => {
  const archive = { DeviceID: '1', ext: { LWSX: '0', SFKK: '0' }, Info: { PhotoelectricImagingType: '1/2/8', PointType: 2 } }
  const text = (name: string, locale: 'zh' | 'en' = 'zh'): string | undefined =>
    [...shown(archive, locale).values()].flat().find((field) => field.name === name)?.text

  it('says what a code means, the upside-down flag too', () => {
    expect(text('LWSX')).toBe('已联网')
    expect(text('SFKK')).toBe('否')
    expect(text('PointType', 'en')).toBe('class 2')
  })
  it('names a list one by one and keeps a code it does not know', () => {
    expect(text('PhotoelectricImagingType')).toBe('可见光、热成像、8')
  })
  it('leaves empty what nobody told', () => {
    expect(text('JPBH')).toBe('')
    expect(text('Secrecy')).toBe('')
  })
})

describe('label', () => {
  it('is the name for people, or the path when it is no field', () => {
    expect(label('ext.JPBH', 'zh')).toBe('键盘编号')
    expect(label('CivilCode', 'en')).toBe('Administrative division')
    expect(label('somewhere.else', 'zh')).toBe('somewhere.else')
  })
})
