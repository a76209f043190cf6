library(lme4)

d <- read.csv("measures.csv.gz")
d <- subset(d, measure == "dwell_per_char" & modality == "mouse" & value > 0)
d$doubling <- log2(d$length)

# The dwell per character, on a log scale, by length and layout. Readings of a question, a conversation and a worker are
# alike: each is a random effect, nested in the next.
m <- lmer(log(value) ~ doubling + mode + bullet_points +
            (1 | worker_id / conversation_id / question_id), data = d)
print(summary(m))

# The shares of the variance.
v <- as.data.frame(VarCorr(m))
print(data.frame(level = v$grp, share = v$vcov / sum(v$vcov)))
