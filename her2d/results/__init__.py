"""Results in the database: records, queries, heatmaps and exports."""
