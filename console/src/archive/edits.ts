// What a person changes in a record: from the form's text to the body of PATCH, and values in words.

import type { Locale } from '../i18n'
import { FIELDS, type Field, label, words } from './fields'

type Values = { [name: string]: unknown }
export type Draft = { [path: string]: string }

/** Fields whose values are numbers on the wire; a test holds this against the OpenAPI document. */
export const NUMBERS = new Set([
  'Parental', 'RegisterWay', 'Secrecy', 'Port', 'Longitude', 'Latitude', 'PTZType', 'RoomType', 'SupplyLightType',
  'DirectionType', 'SVCSpaceSupportMode', 'SVCTimeSupportMode', 'MobileDeviceType', 'HorizontalFieldAngle',
  'VerticalFieldAngle', 'MaxViewDistance', 'PointType', 'RecordSaveDays',
])
/** Fields that hold several of their printed codes, joined by "/"; a test holds this against the document too. */
export const LISTS = new Set(['PhotoelectricImagingType', 'FunctionType', 'SSBMHY'])
/** Lists to which a district may add codes of its own. */
export const OPEN = new Set(['SSBMHY'])
/** Flags of Table A.1 that nobody told are absent and not empty. */
const FLAGS = new Set(['SFKK', 'DWMK', 'LWSX'])

/** Fields that a person may change: the code names the device, the status is not the owner's word. */
export const EDITABLE: readonly Field[] = FIELDS.filter((field) => field.name !== 'DeviceID' && field.name !== 'Status')

export function pathOf(field: Field): string {
  return field.part === '' ? field.name : `${field.part}.${field.name}`
}

/** What may be chosen for a field: the printed values, and codes that are held although nobody printed them. */
export function optionsOf(field: Field, held: string, locale: Locale): { value: string; label: string }[] {
  // By number: keys that look like whole numbers would come before '01'.
  const printed = Object.keys(field.values ?? {}).toSorted((one, other) => Number(one) - Number(other))
  const others = chosen(field, held).filter((code) => code !== '' && !printed.includes(code))
  return [...printed, ...others].map((value) => ({ value, label: words(value, field, locale) }))
}

/** The codes that a draft's text chooses. */
export function chosen(field: Field, told: string): string[] {
  return LISTS.has(field.name) ? told.split('/').filter((code) => code !== '') : [told]
}

/** The draft's text for what was chosen; nothing when the choice was cleared. */
export function told(choice: string | string[] | null | undefined): string {
  return Array.isArray(choice) ? choice.join('/') : (choice ?? '')
}

/** The record as the text of a form. */
export function draftOf(archive: Values): Draft {
  return Object.fromEntries(EDITABLE.map((field) => [pathOf(field), text(valueOf(archive, field))]))
}

/** The body of PATCH: only what differs. ``wrong`` are paths of numbers that are none. */
export function bodyOf(archive: Values, draft: Draft): { body: Values; wrong: string[] } {
  const body: Values = {}
  const wrong: string[] = []
  for (const field of EDITABLE) {
    const path = pathOf(field)
    const told = (draft[path] ?? '').trim()
    if (told === text(valueOf(archive, field))) continue
    let value: unknown = told
    if (NUMBERS.has(field.name)) {
      value = told === '' ? null : Number(told)
      if (Number.isNaN(value)) wrong.push(path)
    } else if (told === '' && FLAGS.has(field.name)) value = null
    if (field.part === '') body[field.name] = value
    else body[field.part] = { ...(body[field.part] as Values | undefined), [field.name]: value }
  }
  return { body, wrong }
}

/** The name of a changed field; the owner is no field of the record and has its name from the catalogue. */
export function fieldName(path: string, locale: Locale, owner: string): string {
  return path === 'sourcePlatform' ? owner : label(path, locale)
}

/** A value as people read it; a dash when there is none. */
export function reading(path: string, value: unknown, locale: Locale): string {
  const name = path.split('.').at(-1)
  const field = FIELDS.find((one) => one.name === name)
  const said = field === undefined ? text(value) : words(value, field, locale)
  return said || '—'
}

function valueOf(archive: Values, field: Field): unknown {
  const part = field.part === '' ? archive : ((archive[field.part] ?? {}) as Values)
  return part[field.name]
}

function text(value: unknown): string {
  return value === undefined || value === null ? '' : String(value)
}
