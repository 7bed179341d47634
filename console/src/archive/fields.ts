// Every field of a device archive with its name for people, in the groups in which they are read.
// GB/T 28181-2022 A.2.1.9 and DB31DSJ/Z 001-2024 Table A.1; a test holds this table against the OpenAPI document.

import type { Locale } from '../i18n'

export type Group = 'identity' | 'place' | 'network' | 'imaging' | 'streams' | 'management' | 'shanghai'
export type Part = '' | 'Info' | 'ext'

export interface Field {
  name: string
  part: Part
  group: Group
  zh: string
  en: string
  values?: Record<string, [zh: string, en: string]>
}

/** A field of one archive as it is shown; ``text`` is empty when nobody told it. */
export interface Shown {
  name: string
  label: string
  text: string
}

export const GROUPS: readonly Group[] = ['identity', 'place', 'network', 'imaging', 'streams', 'management', 'shanghai']

const YES_NO: Field['values'] = { '0': ['否', 'no'], '1': ['是', 'yes'] }
const LAYERS: Field['values'] = {
  '0': ['不支持', 'none'],
  '1': ['1 级增强', '1 layer'],
  '2': ['2 级增强', '2 layers'],
  '3': ['3 级增强', '3 layers'],
}

// The printed list of Table A.1 row 9, which may be extended.
const INDUSTRIES: Field['values'] = {
  '1': ['公安机关', 'public security'], '2': ['环保部门', 'environment'], '3': ['文博部门', 'culture and museums'],
  '4': ['医疗部门', 'health care'], '5': ['旅游管理', 'tourism'], '6': ['新闻广电', 'press and broadcasting'],
  '7': ['食品医药监督管理部门', 'food and drugs'], '8': ['教育管理部门', 'education'], '9': ['检察院', 'procuratorate'],
  '10': ['法院', 'courts'], '11': ['金融部门', 'finance'], '12': ['交通部门', 'transport'],
  '13': ['住房和城乡建设部门', 'housing and construction'], '14': ['水利部门', 'water'], '15': ['林业部门', 'forestry'],
  '16': ['安全生产监督部门', 'work safety'], '17': ['市政市容委', 'municipal appearance'], '18': ['国土局', 'land'],
}

export const FIELDS: readonly Field[] = [
  { name: 'DeviceID', part: '', group: 'identity', zh: '设备编码', en: 'Device code' },
  { name: 'Name', part: '', group: 'identity', zh: '名称', en: 'Name' },
  { name: 'Manufacturer', part: '', group: 'identity', zh: '设备厂商', en: 'Manufacturer' },
  { name: 'Model', part: '', group: 'identity', zh: '设备型号', en: 'Model' },
  { name: 'Parental', part: '', group: 'identity', zh: '是否有子设备', en: 'Has sub-devices', values: YES_NO },
  { name: 'ParentID', part: '', group: 'identity', zh: '父节点编码', en: 'Parent codes' },
  { name: 'BusinessGroupID', part: '', group: 'identity', zh: '业务分组编码', en: 'Business group' },
  {
    name: 'MobileDeviceType', part: 'Info', group: 'identity', zh: '移动采集设备类型', en: 'Mobile device type',
    values: {
      '1': ['移动机器人载摄像机', 'robot-borne camera'], '2': ['执法记录仪', 'body-worn recorder'],
      '3': ['移动单兵设备', 'individual mobile device'], '4': ['车载视频记录设备', 'vehicle recorder'],
      '5': ['无人机载摄像机', 'drone'], '9': ['其他', 'other'],
    },
  },
  { name: 'CivilCode', part: '', group: 'place', zh: '行政区域', en: 'Administrative division' },
  { name: 'Block', part: '', group: 'place', zh: '警区', en: 'Police district' },
  { name: 'Address', part: '', group: 'place', zh: '安装地址', en: 'Address' },
  { name: 'Longitude', part: '', group: 'place', zh: '经度（WGS-84）', en: 'Longitude (WGS 84)' },
  { name: 'Latitude', part: '', group: 'place', zh: '纬度（WGS-84）', en: 'Latitude (WGS 84)' },
  { name: 'GrassrootsCode', part: 'Info', group: 'place', zh: '基层组织编码', en: 'Grass-roots code' },
  {
    name: 'PointType', part: 'Info', group: 'place', zh: '监控点位类型', en: 'Point class',
    values: {
      '1': ['一类视频监控点', 'class 1'], '2': ['二类视频监控点', 'class 2'],
      '3': ['三类视频监控点', 'class 3'], '9': ['其他点位', 'other'],
    },
  },
  { name: 'PointCommonName', part: 'Info', group: 'place', zh: '点位俗称', en: 'Popular name' },
  { name: 'CapturePositionType', part: 'Info', group: 'place', zh: '采集部位类型', en: 'Capture position' },
  { name: 'RoomType', part: 'Info', group: 'place', zh: '室内外', en: 'Indoor or outdoor', values: { '1': ['室外', 'outdoor'], '2': ['室内', 'indoor'] } },
  {
    name: 'DirectionType', part: 'Info', group: 'place', zh: '监视方位', en: 'Direction',
    values: {
      '1': ['东（西向东）', 'east'], '2': ['西（东向西）', 'west'], '3': ['南（北向南）', 'south'], '4': ['北（南向北）', 'north'],
      '5': ['东南', 'south-east'], '6': ['东北', 'north-east'], '7': ['西南', 'south-west'], '8': ['西北', 'north-west'],
    },
  },
  { name: 'Status', part: '', group: 'network', zh: '设备状态', en: 'Status', values: { ON: ['在线', 'online'], OFF: ['离线', 'offline'] } },
  { name: 'IPAddress', part: '', group: 'network', zh: 'IP 地址', en: 'IP address' },
  { name: 'Port', part: '', group: 'network', zh: '端口', en: 'Port' },
  { name: 'MAC', part: 'Info', group: 'network', zh: 'MAC 地址', en: 'MAC address' },
  {
    name: 'RegisterWay', part: '', group: 'network', zh: '注册方式', en: 'Registration',
    values: {
      '1': ['IETF RFC 3261 认证注册', 'RFC 3261 authentication'], '2': ['基于口令的双向认证', 'password, both ways'],
      '3': ['基于数字证书的双向认证', 'certificate, both ways'], '4': ['基于数字证书的单向认证', 'certificate, one way'],
    },
  },
  { name: 'SecurityLevelCode', part: '', group: 'network', zh: '安全能力等级', en: 'Security level' },
  { name: 'Secrecy', part: '', group: 'network', zh: '保密属性', en: 'Secrecy', values: { '0': ['不涉密', 'not classified'], '1': ['涉密', 'classified'] } },
  {
    name: 'PTZType', part: 'Info', group: 'imaging', zh: '摄像机结构类型', en: 'Camera type',
    values: {
      '1': ['球机', 'dome'], '2': ['半球', 'hemisphere'], '3': ['固定枪机', 'fixed bullet'], '4': ['遥控枪机', 'remote bullet'],
      '5': ['遥控半球', 'remote hemisphere'], '6': ['多目设备的全景/拼接通道', 'panorama channel'],
      '7': ['多目设备的分割通道', 'split channel'],
    },
  },
  {
    name: 'PhotoelectricImagingType', part: 'Info', group: 'imaging', zh: '光电成像类型', en: 'Imaging',
    values: {
      '1': ['可见光', 'visible'], '2': ['热成像', 'thermal'], '3': ['雷达', 'radar'], '4': ['X 光', 'X-ray'],
      '5': ['深度光场', 'depth'], '9': ['其他', 'other'],
    },
  },
  {
    name: 'SupplyLightType', part: 'Info', group: 'imaging', zh: '补光属性', en: 'Supply light',
    values: { '1': ['无补光', 'none'], '2': ['红外补光', 'infrared'], '3': ['白光补光', 'white'], '4': ['激光补光', 'laser'], '9': ['其他', 'other'] },
  },
  { name: 'HorizontalFieldAngle', part: 'Info', group: 'imaging', zh: '水平视场角（度）', en: 'Horizontal field (°)' },
  { name: 'VerticalFieldAngle', part: 'Info', group: 'imaging', zh: '竖直视场角（度）', en: 'Vertical field (°)' },
  { name: 'MaxViewDistance', part: 'Info', group: 'imaging', zh: '最大可视距离（米）', en: 'View distance (m)' },
  {
    name: 'FunctionType', part: 'Info', group: 'imaging', zh: '卡口功能类型', en: 'Checkpoint function',
    values: {
      '01': ['人脸卡口', 'face'], '02': ['人员卡口', 'person'], '03': ['机动车卡口', 'motor vehicle'],
      '04': ['非机动车卡口', 'non-motor vehicle'], '05': ['物品卡口', 'object'], '99': ['其他', 'other'],
    },
  },
  { name: 'Resolution', part: 'Info', group: 'streams', zh: '分辨率', en: 'Resolutions' },
  {
    name: 'EncodeType', part: 'Info', group: 'streams', zh: '视频编码格式', en: 'Video codec',
    values: { '1': ['MPEG-4', 'MPEG-4'], '2': ['H.264', 'H.264'], '3': ['SVAC', 'SVAC'], '4': ['3GP', '3GP'], '5': ['H.265', 'H.265'] },
  },
  { name: 'StreamNumberList', part: 'Info', group: 'streams', zh: '码流编号', en: 'Streams' },
  { name: 'DownloadSpeed', part: 'Info', group: 'streams', zh: '下载倍速', en: 'Download speeds' },
  { name: 'SVCSpaceSupportMode', part: 'Info', group: 'streams', zh: '空域编码能力', en: 'Spatial SVC', values: LAYERS },
  { name: 'SVCTimeSupportMode', part: 'Info', group: 'streams', zh: '时域编码能力', en: 'Temporal SVC', values: LAYERS },
  { name: 'SSVCRatioSupportList', part: 'Info', group: 'streams', zh: 'SSVC 增强层比例', en: 'SSVC ratios' },
  { name: 'InstallTime', part: 'Info', group: 'management', zh: '安装时间', en: 'Installed' },
  { name: 'ManagementUnit', part: 'Info', group: 'management', zh: '管理单位', en: 'Management unit' },
  { name: 'ContactInfo', part: 'Info', group: 'management', zh: '管理单位联系方式', en: 'Contact' },
  { name: 'RecordSaveDays', part: 'Info', group: 'management', zh: '录像保存天数', en: 'Recording kept (days)' },
  { name: 'IndustrialClassification', part: 'Info', group: 'management', zh: '国民经济行业分类', en: 'Industry (GB/T 4754)' },
  { name: 'SFKK', part: 'ext', group: 'shanghai', zh: '是否可控', en: 'Controllable', values: YES_NO },
  { name: 'JPBH', part: 'ext', group: 'shanghai', zh: '键盘编号', en: 'Keyboard number' },
  { name: 'DYCCSBIP', part: 'ext', group: 'shanghai', zh: '对应存储设备 IP', en: 'Storage device IP' },
  { name: 'DYCCSBTD', part: 'ext', group: 'shanghai', zh: '对应存储设备通道', en: 'Storage channel' },
  { name: 'SXJCJYSZP', part: 'ext', group: 'shanghai', zh: '摄像机场景预设照片', en: 'Scene photo' },
  { name: 'DWMK', part: 'ext', group: 'shanghai', zh: '定位模块', en: 'Positioning module', values: { '0': ['无', 'none'], '1': ['有', 'present'] } },
  // 0 means networked here, while 1 means yes in every other flag (quirk Z001-1).
  { name: 'LWSX', part: 'ext', group: 'shanghai', zh: '联网属性', en: 'Networked', values: { '0': ['已联网', 'networked'], '1': ['未联网', 'not networked'] } },
  { name: 'SSXQGAJG', part: 'ext', group: 'shanghai', zh: '所属辖区公安机关', en: 'Police jurisdiction' },
  { name: 'SSBMHY', part: 'ext', group: 'shanghai', zh: '所属部门/行业', en: 'Department or industry', values: INDUSTRIES },
]

type Values = { [name: string]: unknown }

/** One archive as people read it: fields of each group in order. Lists of codes are named one by one. */
export function shown(archive: Values, locale: Locale): Map<Group, Shown[]> {
  const found = new Map<Group, Shown[]>(GROUPS.map((group) => [group, []]))
  for (const field of FIELDS) {
    const part = field.part === '' ? archive : ((archive[field.part] ?? {}) as Values)
    const label = locale === 'zh' ? field.zh : field.en
    found.get(field.group)?.push({ name: field.name, label, text: words(part[field.name], field, locale) })
  }
  return found
}

/** The name of the field that an issue points at (``ext.JPBH``); the path itself when it is no field. */
export function label(path: string, locale: Locale): string {
  const name = path.split('.').at(-1) ?? path
  const field = FIELDS.find((one) => one.name === name)
  return field === undefined ? path : locale === 'zh' ? field.zh : field.en
}

/** A value of a field in words; empty when nobody told it. */
export function words(value: unknown, field: Field, locale: Locale): string {
  if (value === undefined || value === null || value === '') return ''
  const text = String(value)
  if (field.values === undefined) return text
  const known = field.values
  return text
    .split('/')
    .map((code) => known[code]?.[locale === 'zh' ? 0 : 1] ?? code)
    .join('、')
}
