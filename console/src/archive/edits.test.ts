import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'

import { EDITABLE, LISTS, NUMBERS, bodyOf, chosen, draftOf, fieldName, optionsOf, reading, told } from './edits'

const document = JSON.parse(readFileSync(new URL('../../../docs/openapi.json', import.meta.url), 'utf8'))
const schemas = document.components.schemas

function kinds(schema: string, name: string): string[] {
  const property = schemas[schema].properties[name]
  return [property, ...(property.anyOf ?? [])].map((one: { type?: string }) => one.type ?? '')
}

describe('the table of fields', () => {
  it('has every field that an edit may tell, and no other', () => {
    const asked = (schema: string, prefix: string): string[] =>
      Object.keys(schemas[schema].properties).filter((name) => /^[A-Z]/.test(name) && name !== 'Info').map((name) => prefix + name)
    const names = [...asked('EditAsked', ''), ...asked('InfoAsked', 'Info.'), ...asked('ExtAsked', 'ext.')]
    expect(Object.keys(draftOf({})).toSorted()).toEqual(names.toSorted())
  })
  it('knows which are numbers', () => {
    for (const field of EDITABLE) {
      const schema = { '': 'EditAsked', Info: 'InfoAsked', ext: 'ExtAsked' }[field.part]
      const isNumber = kinds(schema, field.name).some((kind) => kind === 'integer' || kind === 'number')
      expect([field.name, NUMBERS.has(field.name)]).toEqual([field.name, isNumber])
    }
  })
})

describe('what may be chosen', () => {
  const field = (name: string) => EDITABLE.find((one) => one.name === name)!

  it('is the printed values in words, and what is held beside them', () => {
    expect(optionsOf(field('LWSX'), '', 'zh')).toEqual([
      { value: '0', label: '已联网' },
      { value: '1', label: '未联网' },
    ])
    expect(optionsOf(field('PTZType'), '77', 'en').at(-1)).toEqual({ value: '77', label: '77' })
    expect(optionsOf(field('FunctionType'), '01/77', 'zh').map((one) => one.value)).toEqual(['01', '02', '03', '04', '05', '99', '77'])
  })
  it('is one value, or several where a field holds several', () => {
    expect(chosen(field('PTZType'), '1')).toEqual(['1'])
    expect(chosen(field('FunctionType'), '01/02')).toEqual(['01', '02'])
    expect(chosen(field('FunctionType'), '')).toEqual([])
    expect([told(['01', '02']), told('1'), told(undefined), told([])]).toEqual(['01/02', '1', '', ''])
  })
  it('is several only in fields of printed codes that are no numbers', () => {
    for (const name of LISTS) expect([field(name).values !== undefined, NUMBERS.has(name)]).toEqual([true, false])
  })
})

describe('bodyOf', () => {
  const archive = { DeviceID: '1', Name: '甲', Longitude: 121.4, Info: { PTZType: 1 }, ext: { LWSX: '0', JPBH: '12345678' } }

  it('holds only what differs, and empties by null or nothing', () => {
    const draft = { ...draftOf(archive), Name: '乙', Longitude: '', 'Info.PTZType': '2', 'ext.LWSX': '', 'ext.JPBH': '' }
    const body = { Name: '乙', Longitude: null, Info: { PTZType: 2 }, ext: { JPBH: '', LWSX: null } }
    expect(bodyOf(archive, draft)).toEqual({ body, wrong: [] })
    expect(bodyOf(archive, draftOf(archive))).toEqual({ body: {}, wrong: [] })
  })
  it('names a number that is none', () => {
    expect(bodyOf(archive, { ...draftOf(archive), Longitude: '东经' }).wrong).toEqual(['Longitude'])
  })
})

describe('reading', () => {
  it('says what a code means, and a dash for nothing', () => {
    expect(reading('ext.LWSX', '0', 'zh')).toBe('已联网')
    expect(reading('Name', null, 'zh')).toBe('—')
    expect(fieldName('sourcePlatform', 'zh', '归属平台')).toBe('归属平台')
  })
})
