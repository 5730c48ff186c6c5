"""Prints a dashboard as TypeScript, in which each part has the type that Grafana's own schema
(@grafana/schema) gives it. What the schema does not know, no compiler takes.

    python3 dashboard.py DASHBOARD.json >dashboard.ts
"""

import json
import sys

# The types of panels that there are, by Grafana's names of their modules.
MODULES = {"stat": "Stat", "state-timeline": "StateTimeline", "timeseries": "TimeSeries"}
# Those of them whose fields have settings of their own.
WITH_FIELDS = {"StateTimeline", "TimeSeries"}

HEAD = """
import type { AnnotationQuery, Dashboard, Panel, RowPanel, VariableModel } from "@grafana/schema";

// JSON has no enums, but their values.
type Written<T> = T extends string ? `${T}`
  : T extends (infer U)[] ? Written<U>[]
  : T extends object ? { [K in keyof T]: Written<T[K]> }
  : T;
// `Panel` says of options that they are anything.
type Of<Options, Fields> = Omit<Panel<{}, Fields>, "options"> & { options: Options };
// What Prometheus' data source has beside.
type Whole = Omit<Dashboard, "annotations" | "templating"> & {
  annotations: { list: (AnnotationQuery & Query)[] };
  templating: { list: (VariableModel & { definition?: string })[] };
};
type Query = { expr: string; step: string; textFormat: string; titleFormat: string };
"""


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        dashboard = json.load(file)
    for module in MODULES.values():
        path = f"{module.lower()}/panelcfg/x/{module}PanelCfg_types.gen"
        print(f'import type * as {module} from "@grafana/schema/dist/esm/raw/composable/{path}";')
    print(HEAD)
    for panel in dashboard.pop("panels"):
        declare(f"panel{panel['id']}", type_of(panel), panel)
    declare("dashboard", "Whole", dashboard)


def type_of(panel):
    if panel["type"] == "row":
        return "RowPanel"
    module = MODULES[panel["type"]]
    fields = f"Partial<{module}.FieldConfig>" if module in WITH_FIELDS else "{}"
    return f"Of<{module}.Options, {fields}>"


def declare(name, kind, value):
    print(f"export const {name}: Written<{kind}> = {json.dumps(value, indent=1)};")


main()
