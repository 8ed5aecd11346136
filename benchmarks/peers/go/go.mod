module hypern/benchmarks/peers/go

go 1.24
