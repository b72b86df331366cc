#!/bin/sh
# The paper from what is published: tables and figures of results/published are copied to paper/gen, nothing is typed by hand.
# usage: build.sh [1]     1 = draft: missing sweeps are named in the text instead of stopping the build
set -e
cd "$(dirname "$0")"
mkdir -p gen
draft=$1
for sweep in lora_rank_sweep-default; do
    from=../results/published/$sweep
    if [ -f "$from/table.tex" ]; then
        cp "$from/table.tex" "gen/$sweep.tex"; cp "$from/secondary.tex" "gen/$sweep-secondary.tex"
        cp "$from/id_judge.png" "gen/$sweep-id_judge.png"; cp "$from/samples.png" "gen/$sweep-samples.png"
    elif [ -n "$draft" ]; then echo "\\emph{$sweep has not been published.}" > "gen/$sweep.tex"
    else echo "results/published/$sweep/table.tex is missing: make exp=${sweep%-*} run publish, or make paper draft=1" >&2; exit 2
    fi
done
command -v pdflatex >/dev/null 2>&1 || { echo "pdflatex is missing; apt-get install --no-install-recommends texlive-latex-recommended" >&2; exit 2; }
pdflatex -interaction=nonstopmode -output-directory=gen likeness.tex >gen/log.txt 2>&1 || { tail -20 gen/log.txt >&2; exit 1; }
pdflatex -interaction=nonstopmode -output-directory=gen likeness.tex >gen/log.txt 2>&1
echo "paper/gen/likeness.pdf"
