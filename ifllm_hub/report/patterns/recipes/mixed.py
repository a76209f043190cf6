import numpy as np
import pandas as pd
import statsmodels.formula.api as smf

d = pd.read_csv("measures.csv.gz")
d = d[(d.measure == "dwell_per_char") & (d.modality == "mouse") & (d.value > 0)]
d = d.assign(log_value=np.log(d.value), doubling=np.log2(d.length), bullets=d.bullet_points.astype(int))

# The dwell per character, on a log scale, by length and layout, with random effects of worker and conversation.
nested = {"conversation": "0 + C(conversation_id)"}
m = smf.mixedlm("log_value ~ doubling + mode + bullets", d, groups="worker_id", re_formula="1", vc_formula=nested)
print(m.fit().summary())
