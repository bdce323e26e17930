// Checks ../kuroshio/dashboards/kuroshio.json, which dashboard.sh makes the module `input`: the compiler compares it with
// Grafana's own types, this program looks at what types cannot say, and prints the queries as rules for promtool.
import type {
  Dashboard, FieldConfig, FieldConfigSource, Panel, RowPanel, VariableModel,
} from '@grafana/grafana-foundation-sdk/dashboard';
import type { Dataquery } from '@grafana/grafana-foundation-sdk/prometheus';
import type * as heatmap from '@grafana/grafana-foundation-sdk/heatmap';
import type * as stat from '@grafana/grafana-foundation-sdk/stat';
import type * as statetimeline from '@grafana/grafana-foundation-sdk/statetimeline';
import type * as table from '@grafana/grafana-foundation-sdk/table';
import type * as timeseries from '@grafana/grafana-foundation-sdk/timeseries';
import type * as units from '@grafana/grafana-foundation-sdk/units';
import { dashboard } from './input';

declare const process: { exitCode: number };

// A type as JSON has it: enums are their texts, and there are no functions.
type Json<T> = 0 extends 1 & T ? T
  : T extends string ? `${T}`
  : T extends (infer Item)[] ? Json<Item>[]
  : T extends object ? { [K in keyof T as T[K] extends () => void ? never : K]: Json<T[K]> }
  : T;

type DataSource = { type: 'prometheus'; uid: '${datasource}' };
type Target = Omit<Json<Dataquery>, 'datasource' | 'refId'> & { datasource: DataSource; refId: string };
type Defaults<Custom> = Omit<Json<FieldConfig>, 'custom' | 'unit'>
  & { custom?: Custom; unit?: (typeof units)[keyof typeof units] };
// An override sets `unit`, or `custom.width`, to what that key may have.
type Property<Custom> =
  | { [K in keyof Defaults<Custom>]-?: { id: K; value: Defaults<Custom>[K] } }[keyof Defaults<Custom>]
  | { [K in keyof Custom & string]-?: { id: `custom.${K}`; value: Custom[K] } }[keyof Custom & string];
type Fields<Custom> = {
  defaults: Defaults<Custom>;
  overrides: (Omit<Json<FieldConfigSource['overrides'][number]>, 'properties'> & { properties: Property<Custom>[] })[];
};
type Of<Type, Options, Custom> = Omit<Json<Panel>, 'type' | 'datasource' | 'targets' | 'options' | 'fieldConfig'> & {
  type: Type;
  datasource: DataSource;
  targets: Target[];
  options: Options;
  fieldConfig: Fields<Custom>;
};
type Shown = Required<Pick<Json<Panel>, 'id' | 'title' | 'description' | 'gridPos'>> & (
  | Of<'heatmap', Json<heatmap.Options>, Json<heatmap.FieldConfig>>
  | Of<'stat', Json<stat.Options>, {}>
  | Of<'state-timeline', Json<statetimeline.Options>, Json<statetimeline.FieldConfig>>
  | Of<'table', Json<table.Options>, Json<table.FieldConfig>>
  | Of<'timeseries', Json<timeseries.Options>, Json<timeseries.FieldConfig>>
);
type Row = Omit<Json<RowPanel>, 'panels'> & { title: string; gridPos: Shown['gridPos']; panels: [] };
type Variable = Omit<Json<VariableModel>, 'datasource'> & { datasource?: DataSource };
// An `id` is one Grafana's own: the file is provisioned into many.
export type Checked = Omit<Json<Dashboard>, 'id' | 'panels' | 'templating'> & {
  uid: string;
  title: string;
  templating: { list: Variable[] };
  panels: (Shown | Row)[];
};

const wrong: string[] = [];
const seen: Checked['panels'] = [];
for (const panel of dashboard.panels) {
  const { x, y, w, h } = panel.gridPos;
  const name = `panel ${panel.id} "${panel.title}"`;
  if (x < 0 || y < 0 || w < 1 || h < 1 || x + w > 24) wrong.push(`${name} is not within the 24 columns`);
  for (const other of seen) {
    const o = other.gridPos;
    if (other.id === panel.id) wrong.push(`${name} has the id of "${other.title}"`);
    if (x < o.x + o.w && o.x < x + w && y < o.y + o.h && o.y < y + h) wrong.push(`${name} lies over "${other.title}"`);
  }
  seen.push(panel);
}

// Variables as Grafana would fill them in.
const filled = (expr: string) => expr.replace(/\$__(rate_interval|interval|range)\b/g, '1m').replace(/\$\w+/g, '.*');
const rules = dashboard.panels.flatMap((panel) => panel.type === 'row' ? [] : panel.targets.map((target) => {
  if (target.expr.includes('${')) wrong.push(`panel ${panel.id}: write $name in queries, not \${name}`);
  return { record: `panel_${panel.id}_${target.refId}`, expr: filled(target.expr) };
}));

if (wrong.length > 0) {
  console.error(wrong.join('\n'));
  process.exitCode = 1;
}
console.log(JSON.stringify({ groups: [{ name: 'dashboard', rules }] }));
